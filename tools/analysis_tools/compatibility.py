"""Try every method in stock configs of many families, and write which works where.

    python tools/analysis_tools/compatibility.py                    # all, to docs/compatibility.md
    python tools/analysis_tools/compatibility.py --parallel 8
    python tools/analysis_tools/compatibility.py --configs yolox --methods CBAM AWConv2d --out -

Every result is kept in the file of --results as soon as it is there, so a stopped run is resumed
by the same command; --again tries what failed once more.
"""

import argparse
import itertools
import logging
import re
import sys
from pathlib import Path

from mmattn.core.names import did_you_mean
from mmattn.core.progress import Progress
from mmattn.core.text import write_text
from mmattn.insertion.compatibility import COLUMNS, FAILS
from mmattn.insertion.compatibility_table import page, run
from mmattn.insertion.stock import STOCK

ROOT = Path(__file__).absolute().parents[2]


def main(argv: list[str] | None = None) -> None:
    """Run the tool."""
    args = parse_args(argv)
    stocks = [s for s in STOCK if any(re.search(pattern, s.config) for pattern in args.configs)]
    if not stocks:
        names = [stock.config for stock in STOCK]
        hint = did_you_mean(args.configs[0], names)
        sys.exit(f'error: --configs {args.configs[0]!r} matches no config{hint}')
    if args.list:
        print(*(stock.config for stock in stocks), sep='\n')
        return
    logging.disable(logging.WARNING)  # the frameworks log every layer that they initialise
    with Progress('configs', len(stocks), every=60.0) as progress:
        done = itertools.count(1)

        def show(line: str) -> None:
            progress.say(line)
            progress.update(next(done))

        cells = run(args.results, stocks, args.methods, args.parallel, args.again, show)
    text = page(cells)
    if args.out == '-':
        print(text)
    else:
        write_text(args.out, text)
        print(f'written: {args.out}')
    failed = sum(cell.status == FAILS for cell in cells)
    if failed:
        sys.exit(f'error: {failed} of {len(cells)} pairs fail')


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--configs', nargs='+', default=['.*'], metavar='REGEX', help='only configs that match'
    )
    parser.add_argument(
        '--methods', nargs='+', default=list(COLUMNS), choices=COLUMNS, metavar='METHOD',
        help=f'of {", ".join(COLUMNS)}',
    )  # fmt: skip
    parser.add_argument('--parallel', type=int, default=1, help='processes')
    parser.add_argument(
        '--again', nargs='+', default=[], metavar='STATUS',
        choices=['works', 'not applicable', 'framework', 'fails'],
        help='try pairs of this status again',
    )  # fmt: skip
    parser.add_argument(
        '--results', default=str(ROOT / 'work_dirs' / 'compatibility.jsonl'), help='kept here'
    )
    parser.add_argument(
        '--out', default=str(ROOT / 'docs' / 'compatibility.md'), help='the page; - prints it'
    )
    parser.add_argument('--list', action='store_true', help='print the configs and stop')
    return parser.parse_args(argv)


if __name__ == '__main__':
    main()
