import pytest
import torch

from mmattn.layers import ChannelAttention, DualAttention, PositionAttention, _attention
from mmattn.testing import randomise
from tests.layers.test_non_local import Largest
from tests.reference.dual_attention import (
    channel_attention,
    dual_attention,
    position_attention,
)
from tests.values import check_gate, check_values, image

METHODS = {
    'position': (lambda init: PositionAttention(4, reduction=2, init=init), position_attention),
    'channel': (lambda init: ChannelAttention(4, init=init), channel_attention),
    'sum': (lambda init: DualAttention(4, reduction=2, init=init), dual_attention),
}


@pytest.mark.parametrize('training', [True, False], ids=['train', 'eval'])
@pytest.mark.parametrize('method', METHODS)
def test_values(method, training):
    build, reference = METHODS[method]
    check_gate(build, lambda x, p: reference(x, p, training), image(2, 4, 3, 4), training)


@pytest.mark.parametrize('scores', [1, 24, 60, 10**6], ids=['row', 'even', 'uneven', 'whole'])
def test_blocks_change_no_value(scores, monkeypatch):
    monkeypatch.setattr(_attention, 'MAX_SCORES', scores)
    gate = PositionAttention(4, reduction=2)
    x = image(2, 4, 3, 4)
    check_values(gate, lambda x, p: position_attention(x, p, True), (x,), True)


def test_blocks_equal_the_plain_form():
    query, key, value = image(2, 50, 3), image(2, 40, 3, seed=2), image(2, 40, 5, seed=3)
    plain = _attention.plain_attention(query, key, value, 0.7)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_attention, 'MAX_SCORES', 7 * 80)
        blocks = _attention.attention(query, key, value, 0.7)
    torch.testing.assert_close(blocks, plain, rtol=1e-9, atol=1e-9)
    inputs = (query, key, value)
    found, wanted = (torch.autograd.grad(o.square().sum(), inputs) for o in (blocks, plain))
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)


def test_large_maps_need_no_matrix_of_all_pairs(monkeypatch):
    monkeypatch.setattr(_attention, 'MAX_SCORES', 8_000)
    gate = randomise(PositionAttention(16))
    x = torch.randn(1, 16, 24, 24, requires_grad=True)
    with Largest() as largest:
        gate(x).sum().backward()
    assert largest.numel <= x.numel() < 24**4 / 10


def test_many_channels_of_small_maps_need_no_matrix_of_all_pairs():
    gate, x = ChannelAttention(24).double(), image(2, 24, 2, 3)
    torch.nn.init.constant_(gate.beta, 0.7)
    check_values(gate, lambda x, p: channel_attention(x, p, True), (x,), True)
    with Largest() as largest:
        gate(x).sum().backward()
    assert largest.numel < 2 * 24 * 24


@pytest.mark.parametrize('cls', [PositionAttention, DualAttention])
def test_own_scalars_start(cls):
    x = image(1, 4, 3, 3, grad=False).float()
    torch.testing.assert_close(cls(4)(x), x, rtol=0, atol=0)
    scalars = {k: v for k, v in cls(4, init='identity').named_parameters() if v.ndim == 0}
    expected = {k: 0.0 if k == 'gamma' else 1.0 for k in scalars}
    assert {k: v.item() for k, v in scalars.items()} == expected


def test_dissimilar_channels_get_the_weight():
    gate = ChannelAttention(2)
    gate.beta.data.fill_(1)
    x = torch.tensor([[[[10.0, 0.0]], [[0.0, 10.0]]]])  # orthogonal: energies 100 and 0
    swapped = x.flip(1)
    torch.testing.assert_close(gate(x), x + swapped)


@pytest.mark.skipif(
    tuple(map(int, torch.__version__.split('.')[:2])) < (2, 2),
    reason='torch 2.1 has no float16 autocast on a CPU',
)
def test_half_precision_energy_does_not_overflow():
    gate = ChannelAttention(4)
    gate.beta.data.fill_(1)
    x = 50 * image(1, 4, 30, 30, grad=False).float()
    with torch.autocast('cpu', dtype=torch.float16):
        out = gate(x.half())
    assert torch.isfinite(out).all()
    torch.testing.assert_close(out.float(), gate(x), rtol=2e-2, atol=1)


@pytest.mark.parametrize('cls', [PositionAttention, DualAttention])
def test_bad_options(cls):
    with pytest.raises(ValueError, match='reduction must be >= 1, got 0'):
        cls(4, reduction=0)
