"""A mistake ends in its sentence, a bug keeps its traceback, and the log file gets both."""

import errno
import logging
import re
from types import SimpleNamespace

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import Registry

from mmattn.cli.failures import end_run, our_sentence
from mmattn.core.checkpoint import compare
from mmattn.core.identity import make_gamma
from mmattn.core.names import closest
from mmattn.core.text import read_text
from mmattn.registry import MODELS


def caught(call):
    try:
        call()
    except BaseException as error:
        return error
    raise AssertionError('nothing was raised')


class Part:
    def __init__(self):
        make_gamma('papr')


def build_in_a_host():
    """mmengine raises the error of a constructor once more, with the class in front."""
    registry = Registry('other')
    registry.register_module('Part', module=Part)
    registry.build(dict(type='Part'))


OURS = "init must be one of ('paper', 'identity'), got 'papr'"


@pytest.mark.parametrize(
    'call, sentence',
    [
        (lambda: make_gamma('papr'), OURS),
        (build_in_a_host, OURS),
        (lambda: MODELS.get('AWFPM'), "type 'mmattn.AWFPM' is not registered; did you mean"),
        (lambda: closest('x', [1, 2], n=-1), None),
        (lambda: closest('x', 3), None),
        (lambda: compare(torch.nn.Linear(1, 1), 3), None),
        (lambda: read_text('/nowhere/x.txt'), None),
        (lambda: int('x'), None),
        (lambda: SimpleNamespace().x, None),
    ],
    ids=[
        *('a raise of ours', 'through mmengine', 'a KeyError', "difflib's", 'not iterable'),
        *('no mapping', "the system's", 'elsewhere', 'attribute'),
    ],
)
def test_ours_is_what_a_raise_statement_of_ours_raised(call, sentence):
    found = our_sentence(caught(call))
    if sentence is None:
        assert found is None
    else:
        assert found.startswith(sentence)


def written(tmp_path, monkeypatch, source):
    """The function ``f`` of a file that counts as one of ours."""
    file = tmp_path / 'tool.py'
    file.write_text(source)
    space: dict = {}
    exec(compile(source, str(file), 'exec'), space)
    monkeypatch.setattr('mmattn.cli.failures._OURS', (tmp_path,))
    return space['f']


def test_a_bug_inside_a_raise_statement_is_a_bug(tmp_path, monkeypatch):
    f = written(tmp_path, monkeypatch, "def f(x):\n    raise ValueError(f'got {x[3]}')\n")
    assert our_sentence(caught(lambda: f([]))) is None
    assert our_sentence(caught(lambda: f('abcd'))) == 'got d'


def test_a_bug_while_an_error_of_ours_was_handled_is_a_bug():
    def handle():
        try:
            make_gamma('papr')
        except ValueError:
            [][0]

    assert our_sentence(caught(handle)) is None


def test_an_error_raised_once_more_is_not_ours(tmp_path, monkeypatch):
    source = "def f():\n  try:\n    int('x')\n  except ValueError:\n    raise\n"
    assert our_sentence(caught(written(tmp_path, monkeypatch, source))) is None


def test_a_sentence_alone_or_the_traceback(capfd):
    assert end_run('tool', caught(lambda: make_gamma('papr')), code=2) == 2
    assert capfd.readouterr().err == f'tool: {OURS}\n'
    assert end_run('tool', caught(lambda: closest('x', 3))) == 1
    said = capfd.readouterr().err
    assert said.startswith('Traceback') and "TypeError: 'int' object is not iterable" in said
    assert 'names.py' in said and 'tool: ' not in said
    assert end_run('tool', KeyboardInterrupt()) == 130


def test_a_wrong_path_is_a_mistake(tmp_path, capfd):
    (tmp_path / 'out').write_text('')
    assert end_run('tool', caught((tmp_path / 'out').mkdir)) == 1
    assert capfd.readouterr().err == f'tool: File exists: {tmp_path / "out"}\n'
    assert end_run('tool', caught((tmp_path / 'none').read_text)) == 1
    assert capfd.readouterr().err == f'tool: No such file or directory: {tmp_path / "none"}\n'


def test_the_log_file_has_every_traceback(tmp_path, capfd):
    logger = MMLogger.get_instance('failures', log_file=str(tmp_path / 'run.log'))
    assert MMLogger.get_current_instance() is logger
    end_run('tool', caught(lambda: make_gamma('papr')))
    for handler in logger.handlers:
        if isinstance(handler, logging.FileHandler):
            handler.flush()
    log = (tmp_path / 'run.log').read_text()
    assert 'the run ended by an error' in log
    assert re.search(r'Traceback .*identity\.py.*ValueError: init must be one of', log, re.DOTALL)
    assert 'Traceback' not in capfd.readouterr().err


def test_a_full_disk_is_a_sentence_with_the_way_on(tmp_path, capfd):
    torch.save({'optimizer': {}, 'meta': {'iter': 2}, 'a': torch.ones(9)}, tmp_path / 'iter_2.pth')
    error = OSError(errno.ENOSPC, 'No space left on device', str(tmp_path / 'iter_4.pth'))
    assert end_run('train', error, {'work_dir': str(tmp_path)}) == 1
    said = capfd.readouterr().err
    assert re.fullmatch(
        r'train: the disk is full: \S+iter_4\.pth cannot be written \(\d+ MB are free '
        r'there\); make room; then --resume continues from \S+iter_2\.pth\n',
        said,
    )
