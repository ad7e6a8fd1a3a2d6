"""docs/own_method.md: a method from outside of this repository, as the page writes it."""

import re
import runpy
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / 'docs' / 'own_method.md').read_text()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The files of the page, in a folder on the Python path."""
    for name, code in re.findall(r'```python\n# ([\w-]+\.py)[^\n]*\n(.+?)```', PAGE, re.DOTALL):
        (tmp_path / name).write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop('my_methods', None)
    MODELS.module_dict.pop('PeakGate', None)


def test_the_check_of_the_page(folder, capsys):
    runpy.run_path(str(folder / 'check.py'))
    assert 'ok: let every parameter learn' in capsys.readouterr().out.splitlines()


def test_the_config_of_the_page(folder):
    pytest.importorskip('mmdet', reason='the page adds the method to a detector')
    cfg = Config.fromfile(folder / 'faster-rcnn_r50-peak_fpn_1x_coco.py')
    init_default_scope('mmdet')
    backbone = MODELS.build(dict(cfg.model.backbone, init_cfg=None, base_channels=8)).train()
    gates = [m for m in backbone.modules() if type(m).__name__ == 'PeakGate']
    assert len(gates) == 16
    assert all(gate.gamma.requires_grad for gate in gates)  # the frozen first stage's too
    x = torch.randn(1, 3, 64, 64)
    before = [out.detach().clone() for out in backbone.eval()(x)]
    for gate in gates:
        gate.gamma.data.fill_(1.0)
    assert all(not torch.equal(a, b) for a, b in zip(backbone(x), before))
    block = backbone.layer1[0]
    peak = x.new_ones(1, 32, 1, 1) * 2  # of a map that is 0 but for one 4 in 2 positions
    wanted = (block.peak.scale(peak)).sigmoid()
    spike = torch.zeros(1, 32, 1, 2)
    spike[..., 0] = 4
    torch.testing.assert_close(block.peak(spike)[..., :1], 4 * wanted)


def test_the_method_is_short():
    """The page promises a method of 20 lines."""
    (code,) = re.findall(r'```python\n# my_methods.py[^\n]*\n(.+?)```', PAGE, re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 20
