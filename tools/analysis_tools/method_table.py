"""Print the tables of methods: that of the README, or that of docs/methods.md with the costs.

    python tools/analysis_tools/method_table.py
    python tools/analysis_tools/method_table.py --costs

The costs are those of the config's backbone and neck (or head) for one 224 x 224 image, less
those of the plain network. The rows are in mmattn/analysis/methods.yml.
"""

import argparse
from pathlib import Path

from mmattn.analysis.method_table import costs_table, short_table

ROOT = Path(__file__).absolute().parents[2]


def main(argv: list[str] | None = None) -> None:
    """Run the tool."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--costs', action='store_true', help='place, cost, papers instead')
    args = parser.parse_args(argv)
    print(costs_table(ROOT) if args.costs else short_table(ROOT))


if __name__ == '__main__':
    main()
