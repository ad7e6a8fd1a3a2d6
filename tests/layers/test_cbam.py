import pytest
import torch

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
