"""Train a detector, as mmdet's own tools/train.py does, with the data looked at first.

    python tools/train.py configs/aw_fpn/CONFIG.py
    python tools/train.py CONFIG.py --work-dir work_dirs/mine --resume

Wrong data, a misspelt setting, a checkpoint without a fitting key or a loss that is no number end
in one sentence. Checkpoints are written aside and renamed; an old one is deleted last.
"""

import argparse
import os
import sys

from mmattn.cli import command_line
from mmattn.cli.failures import end_run
from mmattn.cli.training import SPLITS, train
from mmattn.core.checkpoint import guarded_loading


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='where logs and checkpoints go')
    parser.add_argument('--amp', action='store_true', help='automatic mixed precision')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate by batch size / auto_scale_lr.base_batch_size',
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='resume from this checkpoint, or from the newest whole one of this folder; without a '
        'name, of the work dir',
    )
    command_line.add_shared_options(parser)
    args = parser.parse_args(argv)
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    args = parse_args(argv)
    cfg = None
    try:
        with guarded_loading(args.trust):
            cfg = command_line.load_config(
                args.config, args.cfg_options, args.launcher, args.work_dir, args.attention
            )
            train(
                cfg,
                amp=args.amp,
                auto_scale_lr=args.auto_scale_lr,
                resume=args.resume,
                skip_data_checks=args.skip_data_checks,
            )
    except (Exception, KeyboardInterrupt) as error:
        return end_run('train', error, cfg, SPLITS)
    return 0


if __name__ == '__main__':
    sys.exit(main())
