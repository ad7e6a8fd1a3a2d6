"""What docs/localization.md says is true."""

import re
import shlex
from pathlib import Path

import pytest
import torch
import torchvision

from mmattn.localization.annotations import FORMATS
from mmattn.localization.boxes import RULES
from mmattn.localization.cam import METHODS
from mmattn.localization.classifiers import load_classifier
from mmattn.localization.report import MEANING
from tests.commands import run_command
from tests.localization.data import boxes_json

TEXT = (Path(__file__).resolve().parents[2] / 'docs/localization.md').read_text()


def commands():
    joined = TEXT.replace('\\\n', ' ')
    found = re.findall(
        r'^(?:python tools/localize.py|tools/dist_localize.sh \d+) .*$', joined, re.M
    )
    return [line for line in found if 'MODEL' not in line]


@pytest.mark.parametrize('line', commands())
def test_commands_parse(line, monkeypatch, capsys):
    def stop(*args, **options):  # what comes after the words are read
        raise ValueError('as far as the classifier')

    monkeypatch.setattr('mmattn.localization.classifiers.load_classifier', stop)
    assert run_command('localize.py', *shlex.split(line, comments=True)[2:]) == 2
    assert capsys.readouterr().err.endswith('ValueError: as far as the classifier\n')


def test_there_are_commands_for_every_data_set():
    text = ' '.join(commands())
    for word in ('ILSVRC', 'CUB_200_2011', 'boxes.json', '--show', 'efficientnet_lite0', 'dist_'):
        assert word in text


def test_every_name_is_explained():
    for name in (*FORMATS, *RULES, *METHODS, *MEANING):
        assert f'`{name}`' in TEXT, name


def test_localize_in_python_runs(tmp_path, monkeypatch, capsys):
    pytest.importorskip('torchvision')
    images, _ = boxes_json(tmp_path, 2)
    images.rename(tmp_path / 'photos')
    monkeypatch.chdir(tmp_path)
    (code,) = [b for b in re.findall(r'```python\n(.*?)```', TEXT, re.S) if 'mmattn.localize' in b]
    scope = {}
    exec(code, scope)
    assert 'photos/p1.png' in capsys.readouterr().out
    assert scope['scored'].metrics['images'] == 2
    for name in ('classes', 'metrics', *vars(scope['found'][0])):
        assert f'`{name}`' in TEXT, name


def test_the_model_of_a_file_is_loaded(tmp_path):
    code = [b for b in re.findall(r'```python\n(.*?)```', TEXT, re.S) if b.startswith('# my_net')]
    assert len(code) == 1
    (tmp_path / 'my_net.py').write_text(code[0])
    net = torchvision.models.resnet18(num_classes=3)
    torch.save(net.state_dict(), tmp_path / 'weights.pth')
    found = load_classifier(f'python:{tmp_path}/my_net.py:make', str(tmp_path / 'weights.pth'))
    assert found.classes == ('cat', 'dog', 'hen')
    torch.testing.assert_close(found.model.fc.weight, net.fc.weight)


def test_the_python_example_runs(capsys):
    pytest.importorskip('torchvision')
    code = [b for b in re.findall(r'```python\n(.*?)```', TEXT, re.S) if 'ScoreMaps' in b]
    assert len(code) == 1
    scope = {}
    exec(code[0], scope)
    assert 'torch.Size([2, 5, 7, 7])' in capsys.readouterr().out
    assert len(scope['boxes']) == 10
