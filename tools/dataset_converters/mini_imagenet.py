"""Split mini-ImageNet again, every class into images to train and to validate on.

    python tools/dataset_converters/mini_imagenet.py data/mini_imagenet

mini-ImageNet was made for few-shot learning: its 100 classes of 600 images are divided by class.
To train one classifier on all of them, the SSIA paper (arXiv 2206.07434) puts the classes together
and keeps 20 % of every class for validation. Two layouts are read: ``images/`` with ``train.csv``,
``val.csv`` and ``test.csv`` (columns ``filename,label``), or ``train/``, ``val/`` and ``test/``
with a folder a class. No image is moved: ``meta/train.txt``, ``meta/val.txt`` (an image and the
number of its class a line) and ``meta/classes.txt`` are written.
"""

import argparse
import sys

from mmattn.cli.failures import end_run
from mmattn.data.mini_imagenet import split_mini_imagenet


def main(argv: list[str] | None = None) -> int | None:
    """Run the tool; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('root', help='the folder of mini-ImageNet')
    parser.add_argument('--val', type=float, default=0.2, help='share to validate (%(default)s)')
    parser.add_argument('--seed', type=int, default=0, help='same seed, same split (%(default)s)')
    args = parser.parse_args(argv)
    try:
        split_mini_imagenet(args.root, args.val, args.seed, report=print)
    except (Exception, KeyboardInterrupt) as error:
        return end_run('mini_imagenet', error)
    return 0


if __name__ == '__main__':
    sys.exit(main())
