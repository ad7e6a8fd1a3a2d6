"""The maps attention computes, against the layers' own formulas, and their pages."""

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from mmattn.analysis import method_views
from mmattn.analysis.attention_maps import Seen, position_maps, searchlights, weight_maps
from mmattn.analysis.gains import find_gates
from mmattn.convs import AWConv2d
from mmattn.layers import LearnToPay, LearnToPayGate
from mmattn.layers.searchlight import OPERATIONS, Searchlight
from mmattn.testing import randomise

IMAGE = np.random.default_rng(0).integers(0, 255, (40, 60, 3)).astype(np.uint8)


def read(file):
    drawn = cv2.imread(str(file))
    assert drawn is not None and drawn.std() > 10
    return drawn


class AWNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = AWConv2d(4, 6, 3, padding=1, reduction=2, r_c1=2)
        self.last = AWConv2d(6, 3, 1, reduction=1)

    def forward(self, x):
        return self.last(self.first(x))


def test_the_map_of_an_aw_convolution(tmp_path):
    net, x = randomise(AWNet()).eval(), torch.randn(2, 4, 8, 8)
    found = weight_maps(net, x)
    assert list(found) == ['first', 'last']
    expected = net.first.attention(x)  # (N, 6, 2, 3, 3)
    assert expected.shape == (2, 6, 2, 3, 3)
    mean = expected[0].mean(1).detach().double()
    torch.testing.assert_close(torch.tensor(found['first']), mean, rtol=1e-6, atol=1e-6)
    assert found['last'].shape == (3, 1, 1)
    assert not net.first.branch._forward_hooks
    method_views.paint_weights(found, tmp_path / 'weights.png')
    read(tmp_path / 'weights.png')
    with pytest.raises(ValueError, match="none of mmattn's; AWConv2d is shown by 'weights'"):
        find_gates(net)


class PayNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate = LearnToPayGate(4, compatibility='dot')
        self.head = LearnToPay(4, 6)

    def forward(self, x):
        x = self.gate(x)
        return self.head(x, x.new_ones(len(x), 6))


def test_the_weights_of_positions(tmp_path):
    net, x = randomise(PayNet()).eval(), torch.randn(2, 4, 5, 7)
    found = position_maps(net, x)
    assert list(found) == ['gate', 'head']
    for weights in found.values():
        assert weights.shape == (5, 7) and abs(weights.sum() - 1) < 1e-6
    logits = (x[0] * x[0].mean((1, 2))[:, None, None]).sum(0)
    expected = logits.flatten().softmax(0).reshape(5, 7).double()
    torch.testing.assert_close(torch.tensor(found['gate']), expected, rtol=1e-5, atol=1e-6)
    gated = net.gate(x)
    expected = net.head.attention(gated, x.new_ones(2, 6))[0, 0].detach().double()
    torch.testing.assert_close(torch.tensor(found['head']), expected, rtol=1e-6, atol=1e-6)
    method_views.paint_positions(found, IMAGE, (48, 64), tmp_path / 'positions.png')
    read(tmp_path / 'positions.png')


class LightNet(nn.Module):
    def __init__(self, operation):
        super().__init__()
        self.light = Searchlight(6, 8, reduction=2, operation=operation)

    def forward(self, x):
        top = x.repeat(1, 2, 1, 1)[:, :8]
        return self.light(self.light(x, top), top)


@pytest.mark.parametrize('operation', OPERATIONS)
def test_a_searchlight_selects_channels_and_positions(operation, tmp_path):
    net, x = randomise(LightNet(operation)).eval(), torch.randn(2, 6, 4, 5)
    found = searchlights(net, x)
    assert list(found) == ['light', 'light (2)']
    channels, positions = (None if v is None else torch.tensor(v) for v in found['light'])
    with torch.no_grad():
        out = net.light(x, x.repeat(1, 2, 1, 1)[:, :8])[0].double()
    one = torch.ones((), dtype=torch.float64)
    gates = (
        one if channels is None else channels[:, None, None],
        one if positions is None else positions,
    )
    if operation == 'recurrent':
        assert channels is positions is None
        return
    factor = (gates[0] + gates[1]) / 2 if operation == 'parallel' else gates[0] * gates[1]
    torch.testing.assert_close(x[0].double() * factor, out, rtol=1e-5, atol=1e-6)
    method_views.paint_searchlights(found, IMAGE, (48, 64), tmp_path / 'light.png')
    read(tmp_path / 'light.png')
    if channels is None:
        return
    both = [found, searchlights(net, x + 1)]
    method_views.paint_selectivity(both, ['a', 'b'], tmp_path / 'selectivity.png')
    read(tmp_path / 'selectivity.png')


def test_channels_in_which_images_differ_come_first(monkeypatch):
    figures = []
    monkeypatch.setattr(method_views, 'save', lambda figure, file: figures.append(figure))
    images = [np.array([0.9, 0.5, 1.0]), np.array([0.9, 0.6, 0.0])]
    method_views.paint_selectivity([{'light': Seen(g, None)} for g in images], ['a', 'b'], None)
    axes = figures[0].axes[0]
    assert axes.images[0].get_array().tolist() == [[1.0, 0.5, 0.9], [0.0, 0.6, 0.9]]
    assert '0.183 (mean), 0.500 (largest)' in axes.get_title()


def test_what_is_not_there_is_named():
    net = nn.Sequential(nn.Conv2d(3, 4, 1))
    for look, kind in [(weight_maps, 'AWConv2d'), (searchlights, 'Searchlight')]:
        with pytest.raises(ValueError, match=f'model must have {kind}, got Sequential with none'):
            look(net, torch.zeros(1, 3, 4, 4))
    with pytest.raises(ValueError, match='LearnToPay or LearnToPayGate, got Sequential with none'):
        position_maps(net, torch.zeros(1, 3, 4, 4))
    with pytest.raises(ValueError, match='images must be 2 or more to compare, got 1'):
        method_views.paint_selectivity([{}], ['a'], None)
