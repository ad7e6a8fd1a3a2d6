"""Print every row of the papers' tables with its figure, config and command.

    python tools/analysis_tools/reproduce.py [--out docs/reproduce.md]

The rows come from the metafiles that model-index.yml names, which hold the papers' figures once.
"""

import argparse
import sys
from pathlib import Path

from mmattn.analysis.reproduce import as_page, read_papers
from mmattn.cli.failures import end_run
from mmattn.core.text import write_text

INDEX = Path(__file__).absolute().parents[2] / 'model-index.yml'


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--out', help='write the page to this file')
    args = parser.parse_args(argv)
    try:
        page = as_page(read_papers(INDEX))
        if args.out:
            write_text(args.out, page)
        else:
            print(page, end='')
    except (Exception, KeyboardInterrupt) as error:
        return end_run('reproduce', error)
    return 0


if __name__ == '__main__':
    sys.exit(main())
