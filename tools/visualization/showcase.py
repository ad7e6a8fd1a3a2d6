"""Draw the images of the README from what `make demo` left.

    python tools/visualization/showcase.py
    python tools/visualization/showcase.py --demo work_dirs/demo --scenes 1 2 3 4

Writes docs/images/demo.webp and, its lower half alone, localizations.webp. Above: scenes that
the detector did not train on, with what it found (red: wrong class or place). Below: where a
classifier trained on class names alone looked, and the box that this gives.
"""

import argparse
import sys
from pathlib import Path

from mmattn.analysis.showcase import draw_showcase
from mmattn.cli.failures import end_run

ROOT = Path(__file__).absolute().parents[2]


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--demo', type=Path, default='work_dirs/demo', help='work dir of the demo (%(default)s)'
    )
    parser.add_argument(
        '--scenes', type=int, nargs='+', default=[2, 3, 6, 7], help='which ones (2 3 6 7)'
    )
    parser.add_argument(
        '--out', type=Path, default=ROOT / 'docs' / 'images', help='folder (docs/images)'
    )
    args = parser.parse_args(argv)
    try:
        draw_showcase(args.demo, args.out, args.scenes)
    except Exception as error:
        return end_run('showcase', error)
    return 0


if __name__ == '__main__':
    sys.exit(main())
