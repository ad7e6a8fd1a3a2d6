import pytest
import torch

from mmattn.layers import SpatialWeights
from tests.reference.spatial_weights import spatial_weights
from tests.values import check_gate, image


@pytest.mark.parametrize('training', [True, False], ids=['train', 'eval'])
def test_values(training):
    check_gate(
        lambda init: SpatialWeights(4, init=init),
        lambda x, p: spatial_weights(x, p, training),
        image(2, 4, 3, 5),
        training,
    )


def test_start():
    torch.manual_seed(0)
    gate = SpatialWeights(64)
    x = image(2, 64, 5, 5, grad=False).float()
    weights = gate.weights(x)
    assert weights.shape == (2, 1, 5, 5)
    torch.testing.assert_close(weights, torch.ones_like(weights), rtol=0, atol=0.02)
    for conv, std, bias in zip((gate.conv1, gate.conv2), (0.01, 0.01), (0.1, 0.1)):
        assert conv.weight.std().item() == pytest.approx(std, rel=0.1)
        assert (conv.bias == bias).all()
    assert gate.conv3.weight.std().item() == pytest.approx(0.001, rel=0.4)


def test_gradient_of_the_weights_is_divided_by_the_channels():
    gate = SpatialWeights(8)
    x = torch.ones(1, 8, 2, 2)
    gate(x).sum().backward()
    # d loss / d w = 8 channels * 1, over 8, at each of 4 positions
    assert gate.conv3.bias.grad.item() == pytest.approx(4.0)


def test_bad_options():
    with pytest.raises(ValueError, match='in_channels must be >= 1, got 0'):
        SpatialWeights(0)
