"""Recount every row of the papers' cost tables: parameters and multiply-accumulates.

    python tools/analysis_tools/cost_tables.py [--only TEXT] [--out docs/costs.md]

Every row is built from this package's modules. Where a figure differs from the printed one, the
row says so and why; nothing is bent to fit. The tables are in mmattn/analysis/cost_tables.yml.
"""

import argparse
from pathlib import Path

from mmattn.analysis.costs import as_page, count, read_rows


def main(argv: list[str] | None = None) -> None:
    """Run the tool."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--only', default='', help='rows whose table or name contains this')
    parser.add_argument('--out', type=Path, help='write the page to this file')
    args = parser.parse_args(argv)
    rows = [r for r in read_rows() if args.only.lower() in f'{r.table} {r.name}'.lower()]
    if not rows:
        parser.error(f'--only must be part of a table or row, got {args.only!r}')
    page = as_page([count(row) for row in rows])
    if args.out:
        args.out.write_text(page, encoding='utf-8')
    else:
        print(page)


if __name__ == '__main__':
    main()
