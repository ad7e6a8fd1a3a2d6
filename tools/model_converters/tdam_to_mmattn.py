"""Turn a checkpoint of TDAM's authors into one for TDResNet with mmpretrain's linear head.

    python tools/model_converters/tdam_to_mmattn.py TD_RNet50.pth.tar tdam_r50.pth

Reads the timm-style and the torchvision-style networks of the authors' repository (ResNet-18, 34,
50, 101; t, m, joint or top, and the blocks are read from the keys) and prints the backbone's
config. Every key and shape must fit; else nothing is written and the keys are listed. A file
with more than tensors in it is a pickle, which can run code: it is only read with --trust. Exit
code: 0 written, 2 refused.
"""

import argparse
import sys
from pathlib import Path

import torch

from mmattn.backbones.tdam_checkpoints import convert
from mmattn.cli.failures import end_run
from mmattn.core.checkpoint import load_checkpoint


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('source', help="the authors' checkpoint")
    parser.add_argument('target', help='file to write')
    parser.add_argument('--distance', type=int, help='m, only where no norm tells it')
    parser.add_argument('--steps', type=int, help='t, only where no norm tells it')
    parser.add_argument('--trust', action='store_true', help='read a pickle that may run code')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run the tool; return the exit code."""
    args = parse_args(argv)
    try:
        state, options = convert(
            load_checkpoint(args.source, args.trust), args.distance, args.steps
        )
        Path(args.target).parent.mkdir(parents=True, exist_ok=True)
        with open(args.target, 'wb') as file:
            torch.save({'state_dict': state, 'meta': {'backbone': options}}, file)
    except (Exception, KeyboardInterrupt) as error:
        return end_run('tdam_to_mmattn', error, code=2)
    config = ', '.join(f'{name}={value!r}' for name, value in options.items())
    print(f"{len(state)} tensors written to {args.target}\ndict(type='mmattn.TDResNet', {config})")
    return 0


if __name__ == '__main__':
    sys.exit(main())
