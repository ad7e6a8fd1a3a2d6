import pytest
import torch
from torch import nn
from torch.testing import assert_close

from mmattn.layers import (
    CBAM,
    ECA,
    ConvAutoencoderAttention,
    LinearAutoencoderAttention,
    SpatialGate,
    autoencoder,
)
from tests.reference.autoencoder import conv_autoencoder, linear_autoencoder
from tests.values import check_gate, check_values, image


@pytest.mark.parametrize('training', [True, False], ids=['train', 'eval'])
@pytest.mark.parametrize('shape', [(8, 9), (3, 10)], ids=['resized back', 'enlarged first'])
def test_conv_values(shape, training):
    check_gate(
        lambda init: ConvAutoencoderAttention(3, init=init),
        lambda x, p: conv_autoencoder(x, p, training),
        image(1, 3, *shape),
        training,
    )


@pytest.mark.parametrize('size', [13, pytest.param(15), pytest.param(30, marks=pytest.mark.slow)])
def test_conv_values_at_the_sizes_of_the_report(size):
    gate = ConvAutoencoderAttention(2, size)
    x = image(1, 2, size, size)
    check_values(gate, lambda x, p: conv_autoencoder(x, p, True, size), (x,), True)


@pytest.mark.parametrize('size', [32, 30, 15, 13])
def test_the_last_deconvolution_fits_its_size(size):
    gate = ConvAutoencoderAttention(2, size)
    logits = gate.decoder(gate.encoder(torch.zeros(1, 2, size, size)))
    assert logits.shape == (1, 2, size, size)


@pytest.mark.parametrize('training', [True, False], ids=['train', 'eval'])
@pytest.mark.parametrize('columns', [5, 4, 7], ids=['own width', 'narrower', 'wider'])
def test_linear_values(columns, training):
    check_gate(
        lambda init: LinearAutoencoderAttention(2, width=5, init=init),
        lambda x, p: linear_autoencoder(x, p, training, 5),
        image(1, 2, 3, columns),
        training,
    )


@pytest.mark.parametrize('rows', [1, 7, 24, 1000], ids='{} rows at a time'.format)
def test_a_linear_autoencoder_of_some_rows_at_a_time_is_that_of_all(rows, monkeypatch):
    gate = LinearAutoencoderAttention(4, width=5).double()
    x = image(2, 4, 3, 5).requires_grad_()  # 24 rows
    expected = x * gate.mlp(x).sigmoid()
    wanted = torch.autograd.grad(expected.square().sum(), [x, *gate.parameters()])
    monkeypatch.setattr(autoencoder, 'CHUNK', rows)
    out = gate(x)
    assert_close(out, expected)
    assert_close(torch.autograd.grad(out.square().sum(), [x, *gate.parameters()]), wanted)


# four places in the report's network: width of the map, channels
PLACES = [(32, 64), (30, 64), (15, 128), (13, 128)]
PLAIN = 2_625_866


def count(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    'build, total',
    [
        (lambda size, c: ConvAutoencoderAttention(c, size), 2_918_570),
        (lambda size, c: LinearAutoencoderAttention(c, size), 2_722_260),
        (lambda size, c: ECA(c, 3), 2_625_878),
        (lambda size, c: CBAM(c), 2_631_794),
        (lambda size, c: nn.Sequential(ECA(c, 3), SpatialGate(c)), 2_626_278),
        (
            lambda size, c: nn.Sequential(ECA(c, 3), ConvAutoencoderAttention(c, size)),
            2_918_582,
        ),
        (
            lambda size, c: nn.Sequential(ECA(c, 3), LinearAutoencoderAttention(c, size)),
            2_722_272,
        ),
    ],
    ids=['conv', 'linear', 'eca', 'cbam', 'eca + spatial', 'eca + conv', 'eca + linear'],
)
def test_parameters_in_the_report(build, total):
    assert PLAIN + sum(count(build(size, c)) for size, c in PLACES) == total


@pytest.mark.parametrize('cls', [ConvAutoencoderAttention, LinearAutoencoderAttention])
def test_start(cls):
    torch.manual_seed(0)
    for module in cls(16).modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            fan = module.weight[0].numel()
            assert module.weight.std().item() == pytest.approx((2 / fan) ** 0.5, rel=0.15)
            assert (module.bias == 0).all()


@pytest.mark.parametrize(
    'build, match',
    [
        (lambda: ConvAutoencoderAttention(4, 14), r'size must be one of \(32, .* got 14'),
        (lambda: LinearAutoencoderAttention(4, 0), 'width must be >= 1, got 0'),
        (lambda: ConvAutoencoderAttention(0), 'in_channels must be >= 1, got 0'),
    ],
    ids=['size', 'width', 'channels'],
)
def test_bad_options(build, match):
    with pytest.raises(ValueError, match=match):
        build()
