import pytest
import torch

from mmattn.layers import FcaNet
from tests.reference.fcanet import fcanet
from tests.values import check_gate, check_values, image


@pytest.mark.parametrize(
    'size, shape',
    [(7, (7, 7)), (7, (9, 4)), (7, (1, 1)), (14, (14, 14)), (16, (5, 7))],
    ids=['own size', 'pooled', 'one position', 'twice the grid', 'between multiples of 7'],
)
def test_values(size, shape):
    x = image(1, 16, *shape)
    gate = FcaNet(16, size=size, reduction=4)
    check_values(gate, lambda x, p: fcanet(x, p, False, size), (x,), False)


@pytest.mark.parametrize('training', [True, False], ids=['train', 'eval'])
def test_values_two_channels_a_group(training):
    check_gate(
        lambda init: FcaNet(32, reduction=8, init=init),
        lambda x, p: fcanet(x, p, training),
        image(2, 32, 7, 7),
        training,
    )


def test_first_group_is_the_mean_times_the_size():
    gate = FcaNet(16)
    x = image(1, 16, 7, 7, grad=False).float()
    torch.testing.assert_close(gate._coefficients(x)[:, 0, 0, 0], 7 * x[:, 0].mean((1, 2)))


@pytest.mark.parametrize('channels, size', [(256, 56), (512, 28), (1024, 14), (2048, 7), (64, 7)])
def test_default_size(channels, size):
    assert FcaNet(channels).size == size


def test_basis_is_not_in_the_checkpoint():
    assert set(FcaNet(16).state_dict()) == {'fc1.weight', 'fc2.weight'}


@pytest.mark.parametrize(
    'options, match',
    [
        (dict(in_channels=24), 'in_channels must be divisible by 16, got 24'),
        (dict(in_channels=16, size=6), 'size must be >= 7, got 6'),
        (dict(in_channels=16, reduction=0), 'reduction must be >= 1, got 0'),
    ],
    ids=['channels', 'size', 'reduction'],
)
def test_bad_options(options, match):
    with pytest.raises(ValueError, match=match):
        FcaNet(**options)
