"""Write detection scenes of real handwritten digits, in COCO and in VOC layout.

The digits are the 1,797 scans that scikit-learn carries (``load_digits``), so neither a download
nor a network is needed. Each scene holds several of them, of various sizes, colours and contrast,
on a cluttered background. Training and validation scenes never share a scan.

    python tools/dataset_converters/make_digits.py data/digits
    python tools/dataset_converters/make_digits.py data/one_digit --one-digit

With ``--one-digit`` each scene holds exactly one digit and lies in a folder named after its class
(``train/seven/00001.jpg``), for classification; the boxes are written too, in COCO layout.
"""

import argparse
import sys

from mmattn.cli.failures import end_run
from mmattn.core.progress import Progress
from mmattn.data.digits import make_digits


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('out', help='folder to write')
    parser.add_argument('--train', type=int, default=1200, help='training scenes (%(default)s)')
    parser.add_argument('--val', type=int, default=200, help='validation scenes (%(default)s)')
    parser.add_argument('--size', type=int, default=160, help='height and width (%(default)s)')
    parser.add_argument('--digits', type=int, default=6, help='most digits a scene (%(default)s)')
    parser.add_argument('--seed', type=int, default=0, help='same seed, same files (%(default)s)')
    parser.add_argument('--one-digit', action='store_true', help='one digit a scene, by class')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int | None:
    """Run the tool; returns the exit code."""
    try:
        args = parse_args(argv)
        with Progress('scenes', args.train + args.val) as progress:
            make_digits(**vars(args), report=progress.say, drawn=progress.update)
    except (Exception, KeyboardInterrupt) as error:
        return end_run('make_digits', error)
    return 0


if __name__ == '__main__':
    sys.exit(main())
