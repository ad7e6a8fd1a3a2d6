"""A bar on a terminal, plain lines elsewhere."""

import io
import sys
from unittest import mock

import pytest

from mmattn.core.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def run(stream, every=0.0):
    with Progress('scenes', 4, stream, every) as progress:
        progress.say('drawing [4] scenes')
        for done in range(1, 5):
            progress.update(done, f'loss {done / 10}')
        progress.say('drawn')
    return stream.getvalue()


def test_a_log_gets_plain_lines():
    lines = run(io.StringIO()).splitlines()
    assert lines[0] == 'drawing [4] scenes'
    assert lines[1].startswith('  scenes 1/4  loss 0.1  time left ')
    assert lines[-2:] == ['  scenes 4/4  loss 0.4  time left 0 s', 'drawn']
    assert not any('\x1b' in line for line in lines)


def test_a_log_gets_few_lines_and_the_last():
    lines = run(io.StringIO(), every=1000).splitlines()
    assert lines[1:] == ['  scenes 4/4  loss 0.4  time left 0 s', 'drawn']


def test_a_terminal_gets_a_bar(monkeypatch):
    pytest.importorskip('rich')
    monkeypatch.setenv('TERM', 'xterm')
    monkeypatch.delenv('NO_COLOR', raising=False)
    shown = run(Terminal())
    assert '\x1b[' in shown
    assert '4/4' in shown
    assert 'drawing [4] scenes' in shown
    assert 'time left' not in shown


def test_a_terminal_without_rich_gets_lines():
    with mock.patch.dict(sys.modules, {'rich': None}):
        assert '  scenes 4/4  loss 0.4' in run(Terminal())


def test_what_fails_leaves_the_terminal_as_it_was(monkeypatch):
    pytest.importorskip('rich')
    monkeypatch.setenv('TERM', 'xterm')
    stream = Terminal()
    with pytest.raises(ZeroDivisionError, match='zero'):
        run_into_a_fault(stream)
    assert '\x1b[?25h' in stream.getvalue()  # the cursor is there again


def run_into_a_fault(stream):
    with Progress('scenes', 4, stream) as progress:
        progress.update(1 // 1)
        progress.update(1 // 0)
