import pytest
import torch
from torch import nn

from mmattn.core.identity import blend
from mmattn.layers import CBAM, SpatialGate
from tests.reference.cbam import cbam, spatial_gate
from tests.values import check_gate, image


@pytest.mark.parametrize('training', [True, False], ids=['train', 'eval'])
@pytest.mark.parametrize(
    'options',
    [
        dict(),
        dict(spatial=False),
        dict(max_pool=False),
        dict(kernel_size=3),
    ],
    ids=['CBAM', 'MaxPool', 'Spatial', 'kernel 3'],
)
def test_values(options, training):
    check_gate(
        lambda init: CBAM(6, reduction=2, init=init, **options),
        lambda x, p: cbam(x, p, training, **options),
        image(2, 6, 3, 4),
        training,
    )


def test_values_without_bias():
    check_gate(
        lambda init: CBAM(4, reduction=2, bias=False, init=init),
        lambda x, p: cbam(x, p, True),
        image(2, 4, 2, 3),
        True,
    )


@pytest.mark.parametrize('training', [True, False], ids=['train', 'eval'])
def test_spatial_gate_values(training):
    check_gate(
        lambda init: SpatialGate(5, init=init),
        lambda x, p: spatial_gate(x, p, training),
        image(2, 5, 4, 3),
        training,
    )


@pytest.mark.parametrize('cls', [CBAM, SpatialGate])
def test_spatial_gate_starts_at_one_half(cls):
    gate = cls(4)
    assert gate.spatial[1].weight.item() == 0
    assert gate.spatial[1].momentum == 0.01
    assert cls(4, init='identity').spatial[1].weight.item() == 1
    x = image(2, 4, 3, 3, grad=False).float()
    if cls is SpatialGate:
        torch.testing.assert_close(gate(x), 0.5 * x)


@pytest.mark.parametrize('cls', [CBAM, SpatialGate])
def test_refuses_to_train_on_one_number(cls):
    gate, x = cls(4), torch.ones(1, 4, 1, 1)
    with pytest.raises(ValueError, match='cannot train on one image with a 1x1 map'):
        gate(x)
    assert gate(torch.ones(2, 4, 1, 1)).isfinite().all()
    assert gate.eval()(x).isfinite().all()


@pytest.mark.parametrize(
    'cls, options, match',
    [
        (CBAM, dict(kernel_size=4), 'kernel_size must be odd and >= 1, got 4'),
        (CBAM, dict(reduction=-1), 'reduction must be >= 1, got -1'),
        (SpatialGate, dict(kernel_size=0), 'kernel_size must be odd and >= 1, got 0'),
        (SpatialGate, dict(in_channels=0), 'in_channels must be >= 1, got 0'),
    ],
    ids=['even kernel', 'reduction', 'no kernel', 'no channels'],
)
def test_bad_options(cls, options, match):
    with pytest.raises(ValueError, match=match):
        cls(**{'in_channels': 4, **options})


@pytest.mark.parametrize('init', ['paper', 'identity'])
@pytest.mark.parametrize('max_pool', [True, False], ids=['CBAM', 'Spatial'])
def test_training_equals_the_plain_operators(init, max_pool):
    """In values and in both derivatives: what trains is written apart (layers/_pooled.py)."""
    gate = CBAM(6, reduction=2, max_pool=max_pool, init=init).double()
    with torch.no_grad():
        for p in gate.parameters():
            p.add_(0.3 * torch.randn_like(p))
    x = image(2, 6, 4, 3)
    inputs = (x, *gate.parameters())
    g = torch.randn_like(x)

    def derivatives(out):
        first = torch.autograd.grad(out, inputs, g, create_graph=True)
        return out, *first, *torch.autograd.grad(sum(d.square().sum() for d in first), inputs)

    found = derivatives(gate(x))
    for ours, theirs in zip(found, derivatives(blend(x, gate.attend(x), gate.gamma)), strict=True):
        torch.testing.assert_close(ours, theirs)
    out = gate(x)
    for ours, theirs in zip(torch.autograd.grad(out, inputs, g), found[1:]):  # added in place
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize('strides', ['channels_last', 'transposed'])
def test_training_on_other_strides(strides):
    gate, x = CBAM(4, reduction=2, init='identity').double(), image(2, 4, 5, 3, grad=False)
    nn.init.constant_(gate.gamma, 0.5)
    views = x.contiguous(memory_format=torch.channels_last), x.mT.contiguous().mT
    of_x = []
    for each in (x, views[strides == 'transposed']):
        each = each.detach().requires_grad_()
        gate(each).square().sum().backward()
        of_x.append(each.grad)
    torch.testing.assert_close(*of_x)


def test_training_keeps_one_map():
    gate, x = CBAM(8, init='identity'), image(2, 8, 16, 16)
    kept = set()

    def pack(t):
        if t.numel() >= x.numel():
            kept.add(t.data_ptr())
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        gate(x.float())
    assert len(kept) == 1
