"""Every command line says with --help what it does and shows an example."""

import contextlib
import functools
import io
import re

import pytest

from tests.commands import TOOLS, run_command

NAMES = sorted(
    path.relative_to(TOOLS).as_posix()
    for path in TOOLS.rglob('*.py')
    if 'argparse' in path.read_text()
)


@functools.cache
def help_of(script):
    """What ``python SCRIPT --help`` prints, its commands' options included."""
    name = script.removeprefix('tools/')
    with contextlib.redirect_stdout(io.StringIO()) as said:
        assert run_command(name, '--help') == 0
    text = said.getvalue()
    for command in re.findall(r'^  \{([\w,]+)\}', text, re.MULTILINE)[:1]:
        for part in command.split(','):
            with contextlib.redirect_stdout(io.StringIO()) as said:
                assert run_command(name, part, '--help') == 0
            text += said.getvalue()
    return text


@pytest.mark.parametrize('name', NAMES)
def test_help_has_an_example(name):
    text = help_of(f'tools/{name}')
    example = re.search(
        rf'^ *(?:example: .*)?\bpython tools/{re.escape(name)}', text, re.MULTILINE
    )
    assert example, text


@pytest.mark.parametrize('name', NAMES)
def test_every_tool_is_on_the_page_of_command_lines(name):
    page = (TOOLS.parent / 'docs' / 'tools.md').read_text()
    assert f'`tools/{name}`' in page or f'`{name.rpartition("/")[2]}`' in page
