"""What the README shows runs as it stands there, and every page it links to is there."""

import re
import shlex
from pathlib import Path
from unittest import mock

import pytest

from tests.commands import printed_by, run_command
from tests.docs.blocks import PAGES, blocks, commands, reader

ROOT = Path(__file__).parent.parent
README = ROOT / 'README.md'
TEXT = README.read_text()
PYTHON = [block.code for block in blocks('python', [README])]
SHELL = [line for block in blocks('shell', [README]) for line in commands(block.code)]
# command -> how it is run: here, or by the test or script named
RUN_BY = {
    'pip install -e .': 'tests/test_packaging.py builds the editable install',
    'pip install -e ".[localization]"': 'likewise; tests/localization/test_alone.py',
    'make demo': '.ci/run; tests/tools/test_demo.py runs its steps',
    'python tools/add_attention.py': 'here',
    'python tools/train.py': 'tests/tools/test_train_and_test.py, with a config of that tool',
    'python tools/localize.py': 'here',
    'python tools/study.py': 'tests/study/test_study.py, with a config in the place of CONFIG',
}


@pytest.fixture(scope='module')
def weights():
    """ImageNet weights of torchvision without a network: those of a network that knows nothing."""
    models = pytest.importorskip('torchvision').models
    state = models.resnet50(weights=None).state_dict()
    with mock.patch('torchvision.models._api.load_state_dict_from_url', return_value=state):
        yield


def test_every_block_of_python_runs_in_order(capsys, tmp_path, monkeypatch, weights):
    """In one session, as a reader pastes them; the output shown is the output."""
    pytest.importorskip('mmdet')
    reader(tmp_path)
    monkeypatch.chdir(tmp_path)
    (shown,) = re.findall(r'```\n(CBAM: init.+?)```', TEXT, re.DOTALL)
    (block,) = {b.page for b in blocks('python', [README])}
    names, said = {}, []
    from mmattn.registry import MODELS

    try:
        for code in PYTHON:
            exec(compile(code, str(block), 'exec'), names)
            said.append(capsys.readouterr().out)
    finally:
        MODELS.module_dict.pop('MeanGate', None)
    assert said[0][said[0].index('CBAM: ') :] == shown
    assert [line.split()[0] for line in said[1].splitlines()] == ['a.png', 'b.png']
    assert (tmp_path / 'backbone.pt').stat().st_size > 50e6  # of ResNet-50
    assert names['cfg'].model.backbone.attention[0]['gate']['type'] == 'mmattn.MeanGate'


def test_every_command_is_run_somewhere():
    for line in SHELL:
        assert any(line.startswith(command) for command in RUN_BY), line


def test_the_commands_of_add_attention_run(tmp_path, monkeypatch):
    pytest.importorskip('mmdet')
    monkeypatch.chdir(tmp_path)
    listing, leaf = (line for line in SHELL if 'add_attention' in line)
    assert 'CBAM' in printed_by('add_attention.py', *shlex.split(listing)[2:])
    assert run_command('add_attention.py', *shlex.split(leaf)[2:]) == 0
    assert 'mmattn.AttentionResNet' in (tmp_path / 'cbam.py').read_text()


def test_the_command_of_localize_runs(tmp_path, monkeypatch, weights):
    reader(tmp_path)
    monkeypatch.chdir(tmp_path)
    (line,) = (line for line in SHELL if 'localize' in line)
    assert run_command('localize.py', *shlex.split(line)[2:]) == 0
    assert {'boxes.json', 'report.html'} <= {path.name for path in (tmp_path / 'found').iterdir()}


def test_the_readme_shows_the_versions_that_are_pinned():
    pins = dict(re.findall(r'^([\w-]+)==([\d.]+)', _requirements(), re.MULTILINE))
    row = next(line for line in TEXT.splitlines() if line.startswith('| tested'))
    onedl = row.split('|')[2]
    for name, pinned in (
        ('torch', 'torch'),
        ('mmcv', 'onedl-mmcv'),
        ('mmdet', 'onedl-mmdetection'),
        ('mmpretrain', 'onedl-mmpretrain'),
    ):
        assert f'{name} {pins[pinned]}' in onedl


def _requirements():
    names = ('build', 'hosts', 'mmcv')
    return ''.join((ROOT / 'requirements' / f'{name}.txt').read_text() for name in names)


def test_the_images_are_small():
    for path in re.findall(r'!\[[^]]+\]\((.+?)\)', TEXT):
        assert (ROOT / path).stat().st_size < 300_000


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    links = re.findall(r'\]\(([^)#:]+)(?:#[^)]*)?\)', page.read_text())
    missing = [link for link in links if not (page.parent / link).exists()]
    assert not missing


def test_every_page_is_reachable_from_the_readme():
    seen, todo = set(), [ROOT / 'README.md']
    while todo:
        page = todo.pop()
        seen.add(page)
        for link in re.findall(r'\]\(([^)#:]+)', page.read_text()):
            target = (page.parent / link).resolve()
            if target.suffix == '.md' and target not in seen:
                todo.append(target)
    assert set(PAGES) - seen - {ROOT / 'README.md'} == set()
