"""Pages of small images: what their axes hold."""

import numpy as np
import pytest
import torch
from PIL import Image

from mmattn.analysis import views
from mmattn.analysis.det_cam import DetectorMap
from mmattn.localization.drawing import Overlay

IMAGE = np.full((20, 30, 3), 90, np.uint8)
PADDED = (32, 32)


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """The figure of the page that is painted next, and the file it goes to."""
    figures = []
    save = views.save
    monkeypatch.setattr(views, 'save', lambda f, path: (figures.append(f), save(f, path)))
    return figures, tmp_path / 'page.png'


def bars(axes):
    return [patch.get_height() for patch in axes.patches]


def texts(axes):
    return [axes.get_title(), *(text.get_text() for text in axes.texts)]


def colour_bars(figure):
    return [axes for axes in figure.axes if axes.get_label() == '<colorbar>']


def test_bars_are_sorted_and_share_one_axis(drawn):
    figures, file = drawn
    found = {
        'a': (np.array([0.2, np.nan, 0.9]), None),
        'b': (np.array([1.5, 2.0, 0.1]), None),
    }
    views.paint_gates(found, IMAGE, PADDED, file, {'a': 0.25, 'b.inner': -1.0, 'other': 3.0})
    left, first, other, second = figures[0].axes
    assert bars(first) == [0.9, 0.2]
    assert bars(second) == [2.0, 1.5, 0.1]
    assert first.get_ylim() == second.get_ylim() == (0, pytest.approx(2.1))
    assert 'gamma +0.250' in left.get_title()
    assert 'gamma -1.000' in other.get_title()
    assert file.stat().st_size > 1000


def test_heat_covers_the_padded_input_and_is_cut_to_the_image(drawn):
    figures, file = drawn
    heat = np.zeros((32, 32))
    heat[:, 30:] = 1  # where there is no image
    heat[19, 0] = 1
    views.paint_gates({'a': (None, heat)}, IMAGE, PADDED, file)
    image, shown = (drawn.get_array() for drawn in figures[0].axes[0].images)
    assert shown.shape[:2] == image.shape[:2] == (20, 30)
    hot = np.abs(shown.astype(int) - shown[19, 0]).sum(2) == 0
    assert np.argwhere(hot).tolist() == [[19, 0]]


def test_a_gate_that_does_nothing_has_no_signal(drawn):
    figures, file = drawn
    found = {'a': (np.ones(4), np.ones((5, 5))), 'b': (None, np.full((3, 3), np.nan))}
    views.paint_gates(found, IMAGE, PADDED, file)
    first, right, second, _ = figures[0].axes
    assert 'no signal\n(1.00 everywhere)' in texts(first)
    assert 'no signal\n(1.00 everywhere)' in texts(right)
    assert 'no signal' in texts(second)
    assert not colour_bars(figures[0])


def test_colour_bars_hold_the_lowest_and_the_highest_value(drawn):
    figures, file = drawn
    views.paint_gates({'a': (None, np.linspace(0.25, 0.75, 9).reshape(3, 3))}, IMAGE, PADDED, file)
    (bar,) = colour_bars(figures[0])
    assert [label.get_text() for label in bar.get_yticklabels()] == ['0.25', '0.75']


def test_what_is_made_of_nothing_has_no_place_on_an_axis(drawn):
    figures, file = drawn
    spatial = np.array([[np.inf, 1.0], [np.nan, 2.0]])
    views.paint_gates({'a': (np.array([np.inf, 0.5, 0.25]), spatial)}, IMAGE, PADDED, file)
    _, right = figures[0].axes[:2]
    assert bars(right) == [0.5, 0.25]
    assert right.get_ylim() == (0, pytest.approx(0.525))
    (bar,) = colour_bars(figures[0])
    assert [label.get_text() for label in bar.get_yticklabels()] == ['1', '2']


def overlay(heat):
    return Overlay(Image.fromarray(IMAGE), heat, (0, 0, 30, 20), (), (), 3, 0.5)


def test_class_maps(drawn):
    figures, file = drawn
    heat = np.linspace(0, 1, 600).reshape(20, 30)
    views.paint_cams([overlay(heat), overlay(0 * heat)], ['first', 'second'], file)
    axes = figures[0].axes
    assert len(colour_bars(figures[0])) == 1
    assert 'no signal\n(0.00 everywhere)' in texts(axes[2])


def test_detections(drawn):
    figures, file = drawn
    boxes = torch.tensor([[1.0, 2, 11, 12], [5, 5, 9, 9], [0, 0, 3, 3]])
    found = dict(bboxes=boxes, scores=torch.tensor([0.9, 0.6, 0.1]), labels=torch.zeros(3))
    maps = [
        DetectorMap('dog 0.90', np.eye(4) + 1, boxes[:1].numpy()),
        DetectorMap('cat 0.60', np.zeros((4, 4)), boxes[1:2].numpy()),
    ]
    views.paint_detections(maps, found, IMAGE, PADDED, file)
    whole, first, second = figures[0].axes[:3]
    assert len(whole.patches) == 4  # two boxes, a dark and a light line each
    assert first.patches[0].get_bbox().bounds == (1, 2, 10, 10)
    assert first.get_title() == 'dog 0.90\nmap of 4 x 4'
    assert 'no signal\n(0.00 everywhere)' in texts(second)
    (bar,) = colour_bars(figures[0])
    assert [label.get_text() for label in bar.get_yticklabels()] == ['0', '2']
