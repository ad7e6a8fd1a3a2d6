"""SSIABlock against the equations, and what it must not do."""

import pytest
import torch

from mmattn.auxiliary import SSIABlock
from mmattn.auxiliary.ssia import pool
from mmattn.testing import randomise
from tests.reference.ssia import ssia
from tests.values import image

SIZES = ((4, 5), (3, 2))
OPTIONS = {
    'default': {},
    'var': dict(normaliser='var'),
    'thresholds': dict(thresholds=(0.8, 1.2)),
    'weights': dict(lambda_s=1.0, lambda_c=3.0),
    'normalised input': dict(norm_input=True),
    'resized input': dict(resize_input=True),
    'spatial alone': dict(lambda_c=0.0),
    'channel alone': dict(lambda_s=0.0),
}


def block(seed=0, **options):
    return randomise(SSIABlock(6, SIZES[0], 7, SIZES[1], hidden=5, **options).double(), seed=seed)


@pytest.mark.parametrize('training', [True, False], ids=['train', 'eval'])
@pytest.mark.parametrize('resized', [False, True], ids=['fits', 'other sizes'])
@pytest.mark.parametrize('options', OPTIONS.values(), ids=OPTIONS)
def test_values_and_gradients_are_those_of_the_equations(options, resized, training):
    net = block(**options).train(training)
    low = image(3, 6, *((7, 4) if resized else SIZES[0]))
    high = image(3, 7, *((2, 5) if resized else SIZES[1]), seed=2)
    params = {key: value.detach().clone() for key, value in net.state_dict().items()}
    names = [name for name, _ in net.named_parameters()]
    for name in names:
        params[name].requires_grad_()
    settings = dict(options)
    sizes = (SIZES[1], SIZES[1]) if settings.pop('resize_input', False) else SIZES
    lambdas = settings.pop('lambda_s', 0.5), settings.pop('lambda_c', 1.5)
    expected = ssia(low, high, params, sizes, training, lambdas, **settings)

    found = torch.stack(list(net(low, high).values()))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    weight = image(*found.shape, seed=3, grad=False)
    leaves = [low, *net.parameters()]
    got = torch.autograd.grad((found * weight).sum(), leaves)
    want = torch.autograd.grad((expected * weight).sum(), [low, *(params[n] for n in names)])
    for name, ours, theirs in zip(['low', *names], got, want):
        text = f'{name} differs by {float((ours - theirs).abs().max())}'
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6, msg=text)
    assert got[0].abs().max() > 1e-3


def test_a_regression_worked_out_by_hand():
    """A signal of spread sqrt((1.4^2 + 0.2^2) / 2) = 1; its two small entries do not count."""
    net = SSIABlock(1, (1, 1), 4, (1, 1), lambda_s=0).double()
    signal = torch.tensor([[1.4, -1.4, 0.2, -0.2]], dtype=torch.float64)
    high = signal.reshape(1, 4, 1, 1)
    torch.testing.assert_close(net.signals(pool(high))['channel'], signal)
    predicted = torch.tensor([[0.4, 0.0, 9.0, 9.0]], dtype=torch.float64)
    loss = net._regression(predicted, signal)
    torch.testing.assert_close(loss, torch.tensor((1.0 + 1.96) / 2, dtype=torch.float64))


def test_the_gradient_stops_on_the_signal_side_only():
    net = block()
    low, high = image(3, 6, *SIZES[0]), image(3, 7, *SIZES[1], seed=2)
    sum(net(low, high).values()).backward()
    assert high.grad is None
    assert low.grad.abs().min() > 0
    same = image(3, 6, 4, 5, seed=3)  # identity scheme: one map on both sides
    net = randomise(SSIABlock(6, (4, 5), 6, (3, 2), hidden=5).double())
    sum(net(same, same).values()).backward()
    apart = same.detach().clone().requires_grad_()
    sum(net(apart, same.detach()).values()).backward()
    torch.testing.assert_close(same.grad, apart.grad)


def test_parameters_on_resnet_50():
    """COSTS.md, "Own reference numbers"."""
    spatial = {56: (251856, 101328), 28: (63108, 25476), 14: (15921, 6513)}
    channel = {256: 49856, 512: 99520, 1024: 198848}

    def count(**options):
        return sum(p.numel() for p in SSIABlock(**options).parameters())

    total = 0
    for (side, expected), (width, of_channels) in zip(spatial.items(), channel.items()):
        options = dict(
            low_channels=width,
            low_size=(side, side),
            high_channels=2 * width,
            high_size=(side // 2, side // 2),
        )
        assert count(**options, lambda_c=0) == expected[0]
        assert count(**options, lambda_c=0, resize_input=True) == expected[1]
        assert count(**options, lambda_s=0) == of_channels
        total += count(**options, resize_input=True)
    assert total == 481541


def test_constant_maps_give_zero_and_no_nan():
    net = block()
    low = image(3, 6, *SIZES[0])
    losses = net(low, torch.full((3, 7, 3, 2), 0.3, dtype=torch.float64))
    assert [v.item() for v in losses.values()] == [0.0, 0.0]
    sum(losses.values()).backward()
    assert torch.equal(low.grad, torch.zeros_like(low))
    assert all(torch.isfinite(p.grad).all() for p in net.parameters())


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_autocast_changes_nothing_but_the_maps(dtype):
    net = block().float().eval()
    low = (300 * image(3, 6, *SIZES[0])).to(dtype)
    high = (3e4 + 3e3 * image(3, 7, *SIZES[1], seed=2)).to(dtype)  # float16 sums overflow
    with torch.autocast('cpu', dtype=torch.bfloat16):
        found = net(low, high)
    expected = net.double()(low.double(), high.double())
    for name, value in expected.items():
        assert found[name].dtype == torch.float32
        assert value > 0
        torch.testing.assert_close(found[name].double(), value, rtol=1e-4, atol=0)


def test_weights_survive_a_hosts_rule():
    torch.manual_seed(0)
    net = SSIABlock(6, (4, 5), 7, (3, 2))
    for parameter in net.parameters():
        torch.nn.init.constant_(parameter, 7.0)
    net.init_weights()
    for name, parameter in net.named_parameters():
        assert parameter.abs().max() <= 1, name
    assert torch.equal(net.predictors['spatial'][1].weight, torch.ones(64))


GOOD = dict(low_channels=6, low_size=(4, 5), high_channels=7, high_size=(3, 2))


@pytest.mark.parametrize(
    'options, error, words',
    [
        (dict(lambda_s=-1), ValueError, 'lambda_s must be >= 0, got -1'),
        (dict(lambda_c=-0.5), ValueError, 'lambda_c must be >= 0, got -0.5'),
        (dict(lambda_c=float('nan')), ValueError, 'lambda_c must be >= 0, got nan'),
        (dict(lambda_s=0, lambda_c=0), ValueError, 'lambda_s or lambda_c must be > 0'),
        (dict(normaliser='max'), ValueError, "normaliser must be one of .*'std'.*got 'max'"),
        (dict(thresholds=(2, 1)), ValueError, r'thresholds must be 0 <= low < high, got \(2, 1\)'),
        (dict(norm='IN'), ValueError, "norm must be one of .*'LN'.*, got 'IN'"),
        (dict(hidden=0), ValueError, 'hidden must be >= 1, got 0'),
        (dict(hidden=1.5), TypeError, 'hidden must be an integer, got 1.5'),
    ],
)
def test_bad_options(options, error, words):
    with pytest.raises(error, match=words):
        SSIABlock(**GOOD, **options)


def test_one_image():
    low, high = torch.randn(1, 6, 4, 5), torch.randn(1, 7, 3, 2)
    with pytest.raises(ValueError, match="SSIA's predictor cannot train on one image with norm"):
        SSIABlock(**GOOD)(low, high)
    assert all(v > 0 for v in SSIABlock(**GOOD, norm='LN')(low, high).values())
    assert all(v > 0 for v in SSIABlock(**GOOD).eval()(low, high).values())
