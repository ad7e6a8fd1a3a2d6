import pytest
import torch

from mmattn.layers import LearnToPay, LearnToPayGate
from mmattn.testing import randomise
from tests.reference.learn_to_pay import learn_to_pay, learn_to_pay_gate
from tests.values import check_gate, check_values, image


@pytest.mark.parametrize('training', [True, False], ids=['train', 'eval'])
@pytest.mark.parametrize('compatibility', ['learned', 'dot'])
@pytest.mark.parametrize('width', [3, 5], ids=['projected', 'same width'])
def test_values(width, compatibility, training):
    layer = LearnToPay(width, 5, compatibility)
    check_values(layer, learn_to_pay, (image(2, width, 3, 4), image(2, 5)), training)


@pytest.mark.parametrize('compatibility, matters', [('learned', False), ('dot', True)])
def test_whether_the_global_vector_matters(compatibility, matters):
    layer = randomise(LearnToPay(3, 5, compatibility).double())
    local = image(1, 3, 3, 4)
    first, second = (layer(local, image(1, 5, seed=seed)) for seed in (2, 3))
    assert torch.allclose(first, second) != matters


def test_global_as_a_map():
    layer = randomise(LearnToPay(3, 5).double())
    local, context = image(2, 3, 3, 4), image(2, 5)
    torch.testing.assert_close(
        layer(local, context[:, :, None, None]), layer(local, context), rtol=0, atol=0
    )


def test_attention_sums_to_one_and_weighs_the_map():
    layer = randomise(LearnToPay(5, 5).double())
    local, context = image(2, 5, 3, 4), image(2, 5)
    attn = layer.attention(local, context)
    assert attn.shape == (2, 1, 3, 4)
    torch.testing.assert_close(attn.sum((1, 2, 3)), torch.ones(2, dtype=torch.float64))
    torch.testing.assert_close((local * attn).sum((2, 3)), layer(local, context))


@pytest.mark.parametrize(
    'options, match',
    [
        (dict(in_channels=0, global_channels=4), 'in_channels must be >= 1, got 0'),
        (dict(in_channels=4, global_channels=0), 'global_channels must be >= 1, got 0'),
        (
            dict(in_channels=4, global_channels=4, compatibility='sum'),
            "compatibility must be one of .* got 'sum'",
        ),
    ],
)
def test_bad_options(options, match):
    with pytest.raises(ValueError, match=match):
        LearnToPay(**options)


@pytest.mark.parametrize('training', [True, False], ids=['train', 'eval'])
@pytest.mark.parametrize('compatibility', ['learned', 'dot'])
def test_gate_values(compatibility, training):
    check_gate(
        lambda init: LearnToPayGate(4, compatibility, init=init),
        learn_to_pay_gate,
        image(2, 4, 3, 5),
        training,
    )


@pytest.mark.parametrize('compatibility', ['learned', 'dot'])
def test_mean_of_the_gated_map_is_the_papers_sum(compatibility):
    gate = randomise(LearnToPayGate(4, compatibility).double())
    x = image(2, 4, 3, 5)
    torch.testing.assert_close(gate(x).mean((2, 3)), gate.weigh(x, x.mean((2, 3))))


def test_even_weights_change_nothing():
    x = image(2, 4, 3, 5).float()
    gate = LearnToPayGate(4)
    torch.nn.init.zeros_(gate.weigh.score.weight)
    torch.testing.assert_close(gate(x), x)


def test_bad_options_of_the_gate():
    with pytest.raises(ValueError, match='in_channels must be >= 1, got 0'):
        LearnToPayGate(0)
    with pytest.raises(ValueError, match="compatibility must be one of .* got 'sum'"):
        LearnToPayGate(4, 'sum')
