import pytest
import torch

from mmattn.core.identity import blend, blend_factor, make_gamma


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


@pytest.mark.parametrize('gamma', [0.0, 0.3, 1.0, -2.0])
def test_a_blended_factor_is_the_blend(gamma):
    x, factor = torch.randn(2, 3, 4, 5).double(), torch.randn(2, 3, 1, 1).double()
    gamma = torch.tensor(gamma).double()
    torch.testing.assert_close(x * blend_factor(factor, gamma), blend(x, x * factor, gamma))
    assert blend_factor(factor, None) is factor


def test_a_zero_gamma_changes_no_bit():
    x, factor = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    assert torch.equal(blend(x, x * factor, torch.tensor(0.0)), x)
    assert torch.equal(x * blend_factor(factor, torch.tensor(0.0)), x)


@pytest.mark.filterwarnings('ignore')
def test_a_blended_factor_exports_to_onnx():
    pytest.importorskip('onnxscript')
    reference = pytest.importorskip('onnx.reference')
    if tuple(map(int, torch.__version__.split('.')[:2])) < (2, 6):
        pytest.skip('torch before 2.6 exports ONNX programs of another kind')

    class Blended(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.gamma = torch.nn.Parameter(torch.tensor(0.3))

        def forward(self, x):
            return x * blend_factor(x.mean((2, 3), keepdim=True), self.gamma)

    model, x = Blended().eval(), torch.rand(2, 3, 4, 5)
    program = torch.onnx.export(model, (x,), dynamo=True, verbose=False)
    (out,) = reference.ReferenceEvaluator(program.model_proto).run(None, {'x': x.numpy()})
    torch.testing.assert_close(torch.from_numpy(out), model(x).detach())


def test_blend_of_two_precisions():
    x, attended = torch.randn(2, 3), torch.randn(2, 3, dtype=torch.bfloat16)
    out = blend(x, attended, torch.tensor(0.5))
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, (x + attended) / 2)


def test_unknown_init():
    with pytest.raises(
        ValueError, match=r"init must be one of \('paper', 'identity'\), got 'zero'"
    ):
        make_gamma('zero')
