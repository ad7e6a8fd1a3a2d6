"""The notebooks run from top to bottom, and hold nothing of the machine they were written on."""

import json
import re

import pytest

from tests.docs.blocks import ROOT
from tests.docs.notebooks import run_notebook

NOTEBOOKS = sorted((ROOT / 'docs' / 'notebooks').glob('*.ipynb'))


@pytest.mark.slow
@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_runs(path, tmp_path, monkeypatch):
    """What a cell printed in the notebook, it prints again, figures aside."""
    pytest.importorskip('mmpretrain')
    monkeypatch.chdir(tmp_path)
    for cell, said in run_notebook(json.loads(path.read_text())):
        shown = ''.join(line for out in cell['outputs'] for line in out.get('text', ()))
        assert said or not shown
        for word in re.findall(r'^[A-Za-z_]+', shown, re.MULTILINE):
            assert word in said


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_holds_no_path_of_a_machine(path):
    assert not re.findall(r'/(?:work|root|home|tmp|usr|opt)/[^"\s]*', path.read_text())


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_links_lead_somewhere(path):
    for cell in json.loads(path.read_text())['cells']:
        for link in re.findall(r'\]\(([^)#:]+)', ''.join(cell['source'])):
            assert (path.parent / link).exists(), link


def test_there_are_notebooks():
    assert len(NOTEBOOKS) >= 3
