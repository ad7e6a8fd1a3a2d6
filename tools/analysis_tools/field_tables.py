"""Write into docs/data.md what every field of every annotation layout must hold.

python tools/analysis_tools/field_tables.py            # changes docs/data.md
python tools/analysis_tools/field_tables.py --out -    # prints the tables
"""

import argparse
from pathlib import Path

from mmattn.core.text import read_text, write_text
from mmattn.data.fields import field_tables

PAGE = Path(__file__).absolute().parents[2] / 'docs' / 'data.md'
START, END = '<!-- fields: tools/analysis_tools/field_tables.py -->\n', '<!-- end of fields -->\n'


def renewed(page: str) -> str:
    """Put today's tables between the marks of a page."""
    before, _, rest = page.partition(START)
    return f'{before}{START}\n{field_tables()}\n{END}{rest.partition(END)[2]}'


def main(argv: list[str] | None = None) -> None:
    """Run the tool."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--out', default=str(PAGE), help='the page; - prints the tables')
    args = parser.parse_args(argv)
    if args.out == '-':
        print(field_tables())
    else:
        write_text(args.out, renewed(read_text(args.out)))
        print(f'written: {args.out}')


if __name__ == '__main__':
    main()
