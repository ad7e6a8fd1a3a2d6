"""Maps as frameworks really give them: strided, in half precision, with large values."""

import pytest
import torch
from torch import nn

from mmattn.layers import GlobalContext, LearnToPayGate, LinearAutoencoderAttention, NonLocal

LARGEST = torch.finfo(torch.float16).max


@pytest.mark.parametrize(
    'strided',
    [
        lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
        lambda x: x.contiguous(memory_format=torch.channels_last),
        lambda x: torch.cat([x, x], 3)[..., ::2],
    ],
    ids=['transposed', 'channels last', 'every second column'],
)
def test_global_context_takes_any_strides(strided):
    pytest.importorskip('mmcv')
    gate = GlobalContext(8, 4)
    nn.init.normal_(gate.block.channel_add_conv[-1].weight)
    x = strided(torch.randn(2, 8, 5, 6))
    torch.testing.assert_close(gate(x), gate(x.contiguous()))


@pytest.mark.parametrize('init', ['paper', 'identity'])
@pytest.mark.parametrize(
    'make',
    [
        lambda init: LearnToPayGate(16, init=init),
        lambda init: LearnToPayGate(16, 'dot', init=init),
        lambda init: LinearAutoencoderAttention(16, width=8, init=init),
    ],
    ids=['learned', 'dot', 'autoencoder'],
)
def test_sums_of_large_halves(make, init):
    """What float32 gives, wherever float16 can hold it; not NaN out of sums beyond 65504."""
    torch.manual_seed(0)
    gate = make(init).half()
    if gate.gamma is not None:
        nn.init.constant_(gate.gamma, 0.01)
    x = (torch.randn(2, 16, 8, 8) * 1e4).clamp(-6e4, 6e4).half()
    found = gate(x)
    expected = gate.float()(x.float())
    assert found.dtype == torch.float16
    assert not found.isnan().any()
    expected = expected.clamp(-LARGEST, LARGEST)
    torch.testing.assert_close(found.float().clamp(-LARGEST, LARGEST), expected, rtol=5e-3, atol=1)


@pytest.mark.parametrize('use_scale', [False, True])
def test_non_local_learns_from_large_values(use_scale):
    pytest.importorskip('mmcv')
    torch.manual_seed(0)
    gate = NonLocal(16, use_scale=use_scale)
    nn.init.normal_(gate.block.conv_out.conv.weight)
    x = (torch.randn(2, 16, 8, 8) * 1e8).requires_grad_()
    gate(x).sum().backward()
    assert x.grad.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in gate.parameters())
