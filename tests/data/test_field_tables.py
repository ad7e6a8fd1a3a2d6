"""The tables of docs/data.md are those of the code."""

from pathlib import Path

from mmattn.data.fields import LAYOUTS, field_tables
from tests.commands import run_command

PAGE = Path(__file__).parents[2] / 'docs' / 'data.md'


def test_the_page_has_todays_tables(tmp_path):
    copy = tmp_path / 'data.md'
    copy.write_text(PAGE.read_text())
    assert run_command('analysis_tools/field_tables.py', '--out', copy) == 0
    assert copy.read_text() == PAGE.read_text(), 'run python tools/analysis_tools/field_tables.py'


def test_every_field_is_there():
    text = field_tables()
    for groups in LAYOUTS.values():
        for group, fields in groups.items():
            assert all(f'| `{group}` | `{field.name}` | ' in text for field in fields)
