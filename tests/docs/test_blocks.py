"""Every block of Python on a page runs as it stands there, every command is one that exists."""

import re
import shlex
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT, blocks, commands, reader
from tests.docs.test_help import help_of

PYTHON = blocks('python')
SHELL = blocks('shell') + blocks('bash') + blocks('')


@pytest.mark.parametrize(
    'block',
    [b for b in PYTHON if b.reason is None and b.page.name != 'README.md'],
    ids=lambda block: block.id,
)
def test_python_runs(block, tmp_path, monkeypatch):
    pytest.importorskip('mmdet', reason='most of the pages are about detectors')
    reader(tmp_path)
    monkeypatch.chdir(tmp_path)
    exec(compile(block.code, block.id, 'exec'), {})


@pytest.mark.parametrize('block', [b for b in PYTHON if b.reason], ids=lambda block: block.id)
def test_python_that_is_not_run_is_python_at_least(block):
    compile(block.code, block.id, 'exec')


def lines():
    for block in SHELL:
        for number, line in enumerate(commands(block.code)):
            if re.match(r'(?:[A-Z_]+=\S+ )*(?:python|bash|make|mim|tools/)', line):
                yield pytest.param(line, id=f'{block.id}+{number}')


@pytest.mark.parametrize('line', lines())
def test_a_command_exists_and_has_its_options(line):
    words = shlex.split(line, comments=True)
    while re.match(r'[A-Z_]+=', words[0]):
        words.pop(0)
    if words[0] == 'make':
        targets = re.findall(r'^([\w-]+):', (ROOT / 'Makefile').read_text(), re.MULTILINE)
        assert {w for w in words[1:] if '=' not in w and w != '...'} <= set(targets)
        return
    if words[0] in ('python', 'bash'):
        words.pop(0)
    script = words.pop(0)
    if script == '-m' or not script.startswith(('tools/', 'benchmarks/', 'docs/')):
        return
    assert (ROOT / script).is_file()
    if script.endswith('.py') and script.startswith('tools/') and 'setup_env' not in script:
        known = help_of(script)
        options = {w.split('=')[0] for w in words if w.startswith('--')}
        assert not {option for option in options if option not in known}
    for word in words:
        if re.match(r'configs/', word) and not re.search('[A-Z]{3,}', Path(word).stem):
            assert (ROOT / word).exists()
