import pytest
import torch
from mmcv.cnn import NonLocal2d
from torch.utils._python_dispatch import TorchDispatchMode

from mmattn.layers import NonLocal
from mmattn.testing import randomise
from tests.reference.non_local import non_local
from tests.values import check_gate, image


@pytest.mark.parametrize('training', [True, False], ids=['train', 'eval'])
@pytest.mark.parametrize(
    'options',
    [
        dict(),
        dict(use_scale=True),
        dict(sub_sample=True),
        dict(norm_cfg=dict(type='BN')),
    ],
    ids=['paper', 'scale', 'sub-sampled', 'norm'],
)
def test_values(options, training):
    flags = {k: v for k, v in options.items() if k != 'norm_cfg'}
    check_gate(
        lambda init: NonLocal(4, init=init, **options),
        lambda x, p: non_local(x, p, training, norm='norm_cfg' in options, **flags),
        image(2, 4, 3, 5),
        training,
    )


@pytest.mark.parametrize('sub_sample', [True, False])
@pytest.mark.parametrize('use_scale', [True, False])
def test_same_as_mmcv(use_scale, sub_sample):
    gate = randomise(NonLocal(8, use_scale=use_scale, sub_sample=sub_sample).double())
    host = NonLocal2d(8, use_scale=use_scale, sub_sample=sub_sample).double()
    host.load_state_dict(gate.block.state_dict())
    x = image(2, 8, 6, 5)
    torch.testing.assert_close(gate(x), host(x), rtol=1e-6, atol=1e-9)


class Largest(TorchDispatchMode):
    """The largest tensor that any operator returns."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for part in out if isinstance(out, tuple) else (out,):
            if isinstance(part, torch.Tensor):
                self.numel = max(self.numel, part.numel())
        return out


@pytest.mark.parametrize('reduction', [2, 3], ids=['8 wide', '5 wide'])
def test_large_maps_need_no_matrix_of_all_pairs(reduction):
    gate = randomise(NonLocal(16, reduction))
    x = torch.randn(1, 16, 24, 24, requires_grad=True)
    with Largest() as largest:
        gate(x).sum().backward()
    assert largest.numel <= 2 * x.numel() < 24**4 / 10


@pytest.mark.parametrize(
    'options, name, start',
    [
        (dict(), 'conv', 0),
        (dict(norm_cfg=dict(type='BN')), 'bn', 0),
        (dict(norm_cfg=dict(type='BN'), init='identity'), 'bn', 1),
    ],
    ids=['conv at 0', 'norm at 0', 'norm at 1'],
)
def test_start(options, name, start):
    weight = getattr(NonLocal(8, **options).block.conv_out, name).weight
    torch.testing.assert_close(weight, torch.full_like(weight, start))


def test_identity_start_is_random():
    assert NonLocal(8, init='identity').block.conv_out.conv.weight.abs().min() > 0


def test_sub_sample_needs_two_rows():
    with pytest.raises(ValueError, match=r'sub_sample needs a map of at least 2x2, got \(1, 4\)'):
        NonLocal(4, sub_sample=True)(torch.zeros(1, 4, 1, 4))


def test_bad_options():
    with pytest.raises(ValueError, match='reduction must be >= 1, got 0'):
        NonLocal(4, reduction=0)
