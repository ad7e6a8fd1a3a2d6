"""Try what goes wrong in practice, count what survives, and write the page about it.

    python tools/analysis_tools/reliability.py                        # all, to docs/reliability.md
    python tools/analysis_tools/reliability.py --only kills 'full disk' --out -

Counts are kept in the file of --results as soon as they are there, so a stopped run is resumed by
the same command. It needs the tests of a checkout; the full disk needs the right to mount one.
"""

import argparse
import logging
import sys
import warnings
from pathlib import Path

ROOT = Path(__file__).absolute().parents[2]
sys.path.insert(0, str(ROOT))

from mmattn.core.text import write_text  # noqa: E402
from tests.reliability import EXPERIMENTS, page, run  # noqa: E402

NAMES = [experiment.name for experiment in EXPERIMENTS]


def main(argv: list[str] | None = None) -> None:
    """Run the tool."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--only', nargs='+', choices=NAMES, default=NAMES, metavar='KIND',
                        help=f'of {", ".join(NAMES)}')  # fmt: skip
    parser.add_argument(
        '--results', default=str(ROOT / 'work_dirs' / 'reliability.jsonl'), help='kept here'
    )
    parser.add_argument(
        '--out', default=str(ROOT / 'docs' / 'reliability.md'), help='the page; - prints it'
    )
    args = parser.parse_args(argv)
    logging.disable(logging.WARNING)  # the frameworks log every training that they start
    warnings.simplefilter('ignore')
    counts = run(Path(args.results), args.only)
    if args.out == '-':
        print(page(counts))
    else:
        write_text(args.out, page(counts))
        print(f'written: {args.out}')
    failed = sum(count.tried - count.survived for count in counts.values())
    if failed:
        sys.exit(f'error: {failed} attempts failed')


if __name__ == '__main__':
    main()
