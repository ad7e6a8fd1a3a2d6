"""Say what a config's data sets hold: found, missing, and the first broken file.

    python tools/check_dataset.py configs/ssia/resnet50_1xb32-100e_mini-imagenet.py
    python tools/check_dataset.py CONFIG --splits val --all

Works for detectors and classifiers, downloads nothing. Where the data sets are looked for and how
they must lie: docs/datasets.md. Exit code: 0 nothing missing or broken, 1 something is, 2 wrong
input.
"""

import argparse
import sys

from mmengine.config import DictAction

from mmattn.cli import command_line
from mmattn.cli.failures import end_run
from mmattn.data.inventory import SPLITS, take_inventory


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('--splits', nargs='+', choices=SPLITS, default=list(SPLITS))
    parser.add_argument(
        '--all',
        action='store_true',
        help='decode every image; else the ends of up to 1,000 are looked at',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        default={},
        metavar='KEY=VALUE',
        help='change settings of the config, e.g. train_dataloader.dataset.data_root=PATH',
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    args = parse_args(argv)
    try:
        cfg = command_line.load_config(args.config, args.cfg_options, 'none', None)
        taken = take_inventory(cfg, args.splits, args.all)
    except (Exception, KeyboardInterrupt) as error:
        return end_run('check_dataset', error, code=2)
    for entry in taken:
        print(entry)
    if all(entry.whole for entry in taken):
        return 0
    print('how the data sets must lie: docs/datasets.md')
    return 1


if __name__ == '__main__':
    sys.exit(main())
