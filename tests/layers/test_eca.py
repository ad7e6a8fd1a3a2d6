import pytest
import torch

from mmattn.layers import ECA
from tests.reference.eca import eca, psi
from tests.values import check_gate, image


@pytest.mark.parametrize('training', [True, False], ids=['train', 'eval'])
@pytest.mark.parametrize('kernel_size', [None, 1, 5, 7], ids=['psi', '1', '5', 'wider than C'])
def test_values(kernel_size, training):
    check_gate(
        lambda init: ECA(6, kernel_size, init=init),
        lambda x, p: eca(x, p, training),
        image(2, 6, 3, 4),
        training,
    )


@pytest.mark.parametrize(
    'channels, kernel_size',
    [(1, 1), (16, 3), (64, 3), (128, 5), (256, 5), (512, 5), (1024, 5), (2048, 7)],
)
def test_kernel_size_from_width(channels, kernel_size):
    assert ECA(channels).conv.weight.shape == (1, 1, kernel_size)
    assert psi(channels) == kernel_size


def test_parameters_in_resnet50():
    blocks = {256: 3, 512: 4, 1024: 6, 2048: 3}
    assert sum(n * ECA(c).conv.weight.numel() for c, n in blocks.items()) == 86


def test_worked_example():
    gate = ECA(3, kernel_size=3)
    gate.conv.weight.data = torch.tensor([[[1.0, 0.0, 2.0]]])
    x = torch.tensor([1.0, 2.0, 3.0]).reshape(1, 3, 1, 1)
    logits = torch.tensor([0 + 2 * 2.0, 1.0 + 2 * 3.0, 2.0 + 0]).reshape(1, 3, 1, 1)
    torch.testing.assert_close(gate(x), x * logits.sigmoid())


@pytest.mark.parametrize('kernel_size', [0, 4, -3])
def test_bad_kernel_size(kernel_size):
    with pytest.raises(ValueError, match=f'kernel_size must be odd and >= 1, got {kernel_size}'):
        ECA(8, kernel_size)
