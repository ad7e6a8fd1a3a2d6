import pytest
import torch
from mmdet.registry import MODELS

from mmattn.layers import PyramidAttention
from mmattn.testing import randomise
from tests.reference.pyramid import pyramid
from tests.values import check_gate, image


@pytest.mark.parametrize('training', [True, False], ids=['train', 'eval'])
@pytest.mark.parametrize('grid_size', [2, 3], ids=['smaller grid', 'overlapping cells'])
def test_values_of_one_map(grid_size, training):
    check_gate(
        lambda init: PyramidAttention(4, grid_size, reduction=2, init=init),
        lambda x, p: pyramid([x], p, training, grid_size),
        image(2, 4, 3, 5),
        training,
    )


def test_values_of_several_levels():
    module = randomise(PyramidAttention([3, 2, 4], grid_size=2, reduction=2).double())
    maps = (image(1, 3, 5, 6), image(1, 2, 3, 3), image(1, 4, 2, 3))
    out = module(maps)
    assert out[0] is maps[0] and out[1] is maps[1]
    params = dict(module.state_dict())
    expected = pyramid(maps, params, True, 2)
    torch.testing.assert_close(out[2], expected, rtol=1e-6, atol=1e-6)
    found = torch.autograd.grad(out[2].square().sum(), maps)
    wanted = torch.autograd.grad(expected.square().sum(), maps)
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)


def test_as_a_neck_before_fpn():
    neck = MODELS.build(
        [
            dict(type='mmattn.PyramidAttention', in_channels=[4, 8]),
            dict(type='FPN', in_channels=[4, 8], out_channels=4, num_outs=3),
        ]
    )
    neck.init_weights()
    out = neck((torch.randn(1, 4, 8, 6), torch.randn(1, 8, 4, 3)))
    assert [tuple(o.shape) for o in out] == [(1, 4, 8, 6), (1, 4, 4, 3), (1, 4, 2, 2)]


def test_identity_start_of_several_levels():
    module = PyramidAttention([3, 4], init='identity')
    maps = (torch.randn(2, 3, 6, 6), torch.randn(2, 4, 3, 3))
    torch.testing.assert_close(module(maps), maps, rtol=0, atol=0)
    assert module.alpha.item() == 1


@pytest.mark.parametrize(
    'options, match',
    [
        (dict(in_channels=[]), r'in_channels must be widths >= 1, got \[\]'),
        (dict(in_channels=[4, 0]), r'in_channels must be widths >= 1, got \[4, 0\]'),
        (dict(in_channels=4, grid_size=0), 'grid_size must be >= 1, got 0'),
        (dict(in_channels=4, reduction=0), 'reduction must be >= 1, got 0'),
    ],
    ids=['no level', 'no channels', 'no grid', 'reduction'],
)
def test_bad_options(options, match):
    with pytest.raises(ValueError, match=match):
        PyramidAttention(**options)


def test_wrong_number_of_maps():
    with pytest.raises(ValueError, match='in_channels has 2 levels, got 1 maps'):
        PyramidAttention([3, 4])(torch.zeros(1, 4, 2, 2))
