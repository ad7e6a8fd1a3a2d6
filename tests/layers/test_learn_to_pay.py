import pytest
import torch

from mmattn.layers import LearnToPay
from tests.reference.learn_to_pay import learn_to_pay
from tests.values import check_values, picture, randomise


@pytest.mark.parametrize('training', [True, False], ids=['train', 'eval'])
@pytest.mark.parametrize('width', [3, 5], ids=['projected', 'same width'])
def test_values(width, training):
    check_values(
        LearnToPay(width, 5), learn_to_pay, (picture(2, width, 3, 4), picture(2, 5)), training
    )


def test_global_as_a_map():
    layer = randomise(LearnToPay(3, 5).double())
    local, context = picture(2, 3, 3, 4), picture(2, 5)
    torch.testing.assert_close(
        layer(local, context[:, :, None, None]), layer(local, context), rtol=0, atol=0
    )


def test_attention_sums_to_one_and_weighs_the_map():
    layer = randomise(LearnToPay(5, 5).double())
    local, context = picture(2, 5, 3, 4), picture(2, 5)
    attn = layer.attention(local, context)
    assert attn.shape == (2, 1, 3, 4)
    torch.testing.assert_close(attn.sum((1, 2, 3)), torch.ones(2, dtype=torch.float64))
    torch.testing.assert_close((local * attn).sum((2, 3)), layer(local, context))


@pytest.mark.parametrize(
    'options, match',
    [
        (dict(in_channels=0, global_channels=4), 'in_channels must be >= 1, got 0'),
        (dict(in_channels=4, global_channels=0), 'global_channels must be >= 1, got 0'),
    ],
)
def test_bad_options(options, match):
    with pytest.raises(ValueError, match=match):
        LearnToPay(**options)
