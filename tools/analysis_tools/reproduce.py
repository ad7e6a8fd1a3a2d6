"""Print every row of the papers' tables with its figure, config and command.

    python tools/analysis_tools/reproduce.py [--out docs/reproduce.md]

The rows come from the metafiles that model-index.yml names, which hold the papers' figures once.
"""

import argparse
from pathlib import Path

from mmattn.analysis.reproduce import as_page, read_papers

INDEX = Path(__file__).absolute().parents[2] / 'model-index.yml'


def main(argv: list[str] | None = None) -> None:
    """Run the tool."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--out', type=Path, help='write the page to this file')
    args = parser.parse_args(argv)
    page = as_page(read_papers(INDEX))
    if args.out:
        args.out.write_text(page, encoding='utf-8')
    else:
        print(page, end='')


if __name__ == '__main__':
    main()
