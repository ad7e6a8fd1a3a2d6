"""The tables of docs/data.md are those of the code."""

import importlib.util
from pathlib import Path

from mmattn.data.fields import LAYOUTS, field_tables

ROOT = Path(__file__).parents[2]


def test_the_page_has_todays_tables():
    file = ROOT / 'tools' / 'analysis_tools' / 'field_tables.py'
    spec = importlib.util.spec_from_file_location('field_tables', file)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    page = (ROOT / 'docs' / 'data.md').read_text()
    assert tool.renewed(page) == page, 'run python tools/analysis_tools/field_tables.py'


def test_every_field_is_there():
    text = field_tables()
    for groups in LAYOUTS.values():
        for group, fields in groups.items():
            assert all(f'| `{group}` | `{field.name}` | ' in text for field in fields)
