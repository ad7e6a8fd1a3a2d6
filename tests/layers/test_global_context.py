import sys

import pytest
import torch

from mmattn.layers import GlobalContext
from tests.reference.global_context import global_context
from tests.values import check_gate, image


@pytest.mark.parametrize('training', [True, False], ids=['train', 'eval'])
def test_values(training):
    check_gate(
        lambda init: GlobalContext(6, reduction=2, init=init),
        lambda x, p: global_context(x, p, training),
        image(2, 6, 3, 4),
        training,
    )


@pytest.mark.parametrize('channels', [48, 96, 144, 400, 2048])
def test_hidden_width_is_exact(channels):
    for reduction in range(1, channels // 2 + 1):
        if reduction < 33 or channels // reduction == 2:
            gate = GlobalContext(channels, reduction) if channels < 400 else None
            hidden = channels // reduction
            assert int(channels * ((hidden + 0.5) / channels)) == hidden
            assert gate is None or gate.block.planes == hidden


def test_starts_as_the_identity():
    x = image(2, 8, 3, 3, grad=False).float()
    torch.testing.assert_close(GlobalContext(8, reduction=2)(x), x, rtol=0, atol=0)
    last = GlobalContext(8, reduction=2, init='identity').block.channel_add_conv[-1]
    assert last.weight.abs().max() > 0


def test_needs_two_hidden_units():
    with pytest.raises(ValueError, match='reduction must leave at least 2 of 16 channels, got 16'):
        GlobalContext(16)


def test_says_what_is_missing_without_mmcv(monkeypatch):
    monkeypatch.setattr('mmattn.importlib.util.find_spec', lambda name: None)
    monkeypatch.delitem(sys.modules, 'mmcv', raising=False)
    with pytest.raises(ImportError, match='mmcv is not installed; .*pip install'):
        GlobalContext(32)
