import pytest
import torch

from mmattn.identity import blend, make_gamma


def test_paper_adds_nothing():
    x, attended = torch.randn(2, 3), torch.randn(2, 3)
    assert make_gamma('paper') is None
    assert blend(x, attended, None) is attended


def test_identity_starts_plain_and_gamma_learns():
    x, attended = torch.tensor([1.0, 2.0]), torch.tensor([3.0, -1.0])
    gamma = make_gamma('identity')
    out = blend(x, attended, gamma)
    torch.testing.assert_close(out, x)
    out.sum().backward()
    assert gamma.grad == -1  # the sum of attended - plain: 2 - 3
    torch.testing.assert_close(blend(x, attended, torch.tensor(0.5)), torch.tensor([2.0, 0.5]))


def test_unknown_init():
    with pytest.raises(
        ValueError, match=r"init must be one of \('paper', 'identity'\), got 'zero'"
    ):
        make_gamma('zero')
