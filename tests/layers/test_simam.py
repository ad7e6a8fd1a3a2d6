import pytest
import torch

from mmattn.layers import SimAM
from tests.reference.simam import simam
from tests.values import check_gate, image


@pytest.mark.parametrize('lam', [1e-4, 0.1])
@pytest.mark.parametrize('size', [(3, 4), (1, 5), (1, 1)], ids=['map', 'row', 'one position'])
def test_values(size, lam):
    check_gate(
        lambda init: SimAM(3, lam, init=init),
        lambda x, p: simam(x, p, True, lam),
        image(2, 3, *size),
        True,
    )


def test_has_no_parameters():
    assert not list(SimAM(8).parameters())


def test_large_half_precision_values_do_not_overflow():
    x = 300 * image(2, 3, 40, 40, grad=False)  # squares beyond 65504
    torch.testing.assert_close(SimAM(3)(x.half()).double(), SimAM(3)(x), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize('lam', [0, -1.0, float('nan')])
def test_bad_lambda(lam):
    with pytest.raises(ValueError, match=f'lam must be > 0, got {lam}'):
        SimAM(3, lam)
