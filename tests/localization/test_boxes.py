"""Boxes: every rule's details by hand, defined answers for odd maps, and properties."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mmattn.localization.boxes import (
    RULES,
    BoxRule,
    boxes_from_maps,
    boxes_from_mask,
    get_rule,
    masks_from_maps,
    stretch,
    upsample,
)
from tests.reference.cam_sweep import largest_component_box

RULE_NAMES = list(RULES)
MAPS = hnp.arrays(np.float32, (5, 7), elements=st.floats(-8, 8, width=16))


def mask_of(*rows):
    return np.array([[int(c == '#') for c in row] for row in rows], np.uint8)


def boxes(mask, select='largest-component', **options):
    return boxes_from_mask(mask, BoxRule('test', select=select, **options)).tolist()


def test_largest_component_touches_at_corners():
    mask = mask_of('#....', '.#...', '...##', '...#.')  # two by a corner against three
    assert boxes(mask) == [[3, 2, 5, 4]]
    mask = mask_of('#....', '.#...', '..#..', '....#')
    assert boxes(mask) == [[0, 0, 3, 3]]


@pytest.mark.parametrize(
    'rows',
    [
        ('.....##', '##.....', '.......'),  # top row first, although further right
        ('.....#', '.....#', '##....'),
        ('......#', '......#', '#......', '#......'),
    ],
)
def test_ties_go_to_the_first_in_reading_order(rows):
    mask = mask_of(*rows)
    assert boxes(mask) == [list(largest_component_box(mask.tolist()))]


def test_area_is_counted_in_pixels_not_enclosed():
    ring = np.zeros((12, 20), np.uint8)
    ring[1:9, 1:9] = 1
    ring[2:8, 2:8] = 0  # 28 pixels around an enclosed area of 49
    ring[2:8, 12:18] = 1  # 36 pixels, enclosed area 25
    assert boxes(ring) == [[12, 2, 18, 8]]
    assert boxes(ring, 'largest-contour') == [[1, 1, 9, 9]]


def test_all_contours_include_hole_borders():
    ring = np.zeros((10, 10), np.uint8)
    ring[1:9, 1:9] = 1
    ring[3:6, 3:7] = 0
    found = sorted(boxes(ring, 'all-contours'))
    # the hole's border runs over the ring's own pixels around the hole
    assert found == [[1, 1, 9, 9], [2, 2, 8, 7]]


def test_longest_contour_counts_corner_points():
    mask = np.zeros((30, 60), np.uint8)
    mask[2:28, 2:28] = 1  # large, 4 corner points
    for i in range(8):  # a saw: small, many corners
        mask[10 + i % 2 : 14, 35 + 2 * i : 37 + 2 * i] = 1
    assert boxes(mask, 'longest-contour', min_points=15) == [[35, 10, 51, 14]]
    assert boxes(mask, 'largest-contour') == [[2, 2, 28, 28]]
    assert boxes(mask, 'longest-contour') == [[35, 10, 51, 14]]
    square = mask[:, :30]  # more corner points than the limit, not as many
    assert boxes(square, 'longest-contour', min_points=3) == [[2, 2, 28, 28]]
    assert boxes(square, 'longest-contour', min_points=4, empty='zero') == [[0, 0, 0, 0]]


def test_clip_last_moves_only_edges_on_the_border():
    mask = mask_of('...##', '...##', '.....')
    assert boxes(mask, 'largest-contour') == [[3, 0, 5, 2]]
    assert boxes(mask, 'largest-contour', clip_last=True) == [[3, 0, 4, 2]]


def test_an_all_zero_map_selects_nothing():
    rule = BoxRule('test', empty='zero')
    assert boxes_from_maps(torch.zeros(1, 3, 3), (6, 6), rule)[0].tolist() == [[0, 0, 0, 0]]


def test_threshold_is_inclusive_and_relative_to_the_maximum():
    row = torch.tensor([[[20.0, 3.0, 2.9, -50.0]]])  # 15 % of 20 is 3; the minimum plays no part
    rule = BoxRule('test', 0.15)
    assert masks_from_maps(row, (1, 4), rule).tolist() == [[[1, 1, 0, 0]]]
    strict = BoxRule('test', 0.15, strict=True)
    assert masks_from_maps(row, (1, 4), strict).tolist() == [[[1, 0, 0, 0]]]


def test_minmax_levels_are_cut_not_rounded():
    row = torch.tensor([[[-1.0, 1.0, 3.0]]])
    assert stretch(row).tolist() == [[[0.0, 127.5, 255.0]]]
    at = [BoxRule('t', t, scale='minmax-uint8', strict=True, relu=False) for t in (0.499, 0.4961)]
    assert masks_from_maps(row, (1, 3), at[0]).tolist() == [[[0, 0, 1]]]  # 127 > 127 fails
    assert masks_from_maps(row, (1, 3), at[1]).tolist() == [[[0, 1, 1]]]  # 127 > 126


def test_tdam_grey_values_cut_near_a_quarter_of_the_range():
    ramp = torch.linspace(0, 1, 156)[None, None]  # stretched to 0, 1, ..., 155
    mask = masks_from_maps(ramp, (1, 156), RULES['tdam'])[0, 0]
    first = int(mask.argmax())
    assert mask[first:].all()
    assert first / 155 == pytest.approx(0.239, abs=0.007)


def test_relu_comes_before_the_resize():
    row = torch.tensor([[[1.0, -9.0]]])
    up = upsample(row, (1, 4), RULES['gradcam-0.15'])[0, 0]
    torch.testing.assert_close(up, torch.tensor([1.0, 0.75, 0.25, 0.0]))  # corners not aligned
    signed = upsample(row, (1, 4), RULES['cam-0.20'])[0, 0]
    torch.testing.assert_close(signed, torch.tensor([1.0, -1.5, -6.5, -9.0]))


def test_default_rule_from_map_to_box():
    maps = torch.zeros(1, 4, 4)
    maps[0, 1, 2] = 1.0
    # along each axis the peak's cell spreads as 0.125 0.375 0.625 0.875 ... ; 0.15 of the
    # maximum 0.875^2 = 0.1148 is reached where the product is large enough
    axis = np.array([0.125, 0.375, 0.625, 0.875, 0.875, 0.625, 0.375, 0.125])
    product = np.outer(axis, axis) >= 0.15 * 0.875**2
    rows, columns = np.flatnonzero(product.any(1)), np.flatnonzero(product.any(0))
    expected = [6 + columns[0], 2 + rows[0], 6 + columns[-1] + 1, 2 + rows[-1] + 1]
    assert boxes_from_maps(maps, (16, 16))[0].tolist() == [expected]


@pytest.mark.parametrize('name', RULE_NAMES)
@pytest.mark.parametrize(
    'kind', ['zero', 'constant', 'negative', 'nan', 'one nan', 'infinite', 'single']
)
def test_odd_maps_have_defined_answers(kind, name):
    maps = torch.zeros(1, 7, 7)
    if kind == 'constant':
        maps += 3
    elif kind == 'negative':
        maps -= 3
    elif kind == 'nan':
        maps[:] = float('nan')
    elif kind == 'one nan':
        maps[0, 2, 2] = float('nan')
        maps[0, 5, 5] = 4
    elif kind == 'infinite':
        maps[0, 2, 2] = float('inf')
    elif kind == 'single':
        maps = torch.full((1, 1, 1), 5.0)
    found = boxes_from_maps(maps, (30, 40), name)[0].tolist()
    whole = RULES[name].empty == 'whole'
    assert found == [[0, 0, 40, 30] if whole else [0, 0, 0, 0]]


@pytest.mark.parametrize('name', RULE_NAMES)
def test_single_peak(name):
    maps = torch.zeros(1, 7, 7)
    maps[0, 3, 4] = 2.0
    (x0, y0, x1, y1) = boxes_from_maps(maps, (224, 224), name)[0][0]
    assert x0 < 4.5 * 32 < x1
    assert y0 < 3.5 * 32 < y1
    assert x1 - x0 < 96


def test_batches_and_threads_give_the_same_boxes():
    from concurrent.futures import ThreadPoolExecutor

    maps = torch.rand(6, 7, 7, generator=torch.Generator().manual_seed(0))
    alone = [boxes_from_maps(m[None], (64, 48), 'clova-v2')[0] for m in maps]
    with ThreadPoolExecutor(3) as pool:
        together = boxes_from_maps(maps, (64, 48), 'clova-v2', pool)
    for one, other in zip(alone, together):
        np.testing.assert_array_equal(one, other)
    assert boxes_from_maps(torch.zeros(0, 7, 7), (64, 48)) == []


def test_more_components_than_sixteen_bits_hold():
    mask = np.zeros((600, 600), np.uint8)
    mask[::2, ::2] = 1  # 90,000 single pixels
    mask[-2:, -2:] = 1
    assert boxes(mask) == [[598, 598, 600, 600]]


def test_rules_are_immutable_and_named():
    assert RULES['gradcam-0.15'] == BoxRule('gradcam-0.15')
    with pytest.raises(AttributeError):
        RULES['gradcam-0.15'].threshold = 0.5
    assert get_rule('gradcam-0.30').threshold == 0.30
    assert get_rule('clova-v1@0.35').threshold == 0.35
    assert get_rule('clova-v1@0.35').select == 'largest-contour'
    own = get_rule(dict(base='tdam', threshold=0.2, name='mine'))
    assert (own.name, own.threshold, own.scale) == ('mine', 0.2, 'jet-155')
    assert get_rule(own) is own


@pytest.mark.parametrize(
    ('rule', 'error', 'message'),
    [
        ('gradcam', ValueError, 'rule must be one of gradcam-0.15, .* got .gradcam.'),
        ('cam-2', ValueError, 'rule must be one of'),
        (dict(base='nope'), ValueError, 'rule must be one of'),
        (dict(treshold=1), ValueError, r"no field \['treshold'\]; its fields are base, name,"),
        (dict(threshold=1.5), ValueError, r'threshold must be in \[0, 1\), got 1.5'),
        (dict(select='big'), ValueError, "select must be one of largest-component, .* got 'big'"),
        (dict(iou='x'), ValueError, "iou must be one of continuous, pixel-inclusive, got 'x'"),
        (3, TypeError, 'rule must be a name, a mapping or a BoxRule, got int'),
    ],
)
def test_wrong_rules(rule, error, message):
    with pytest.raises(error, match=message):
        get_rule(rule)


def test_wrong_shape():
    with pytest.raises(ValueError, match=r'shape \(N, h, w\), got \(7, 7\)'):
        boxes_from_maps(torch.zeros(7, 7), (10, 10))


@pytest.mark.parametrize('name', RULE_NAMES)
@settings(max_examples=60, deadline=None)
@given(maps=MAPS, height=st.integers(1, 40), width=st.integers(1, 40))
def test_a_box_never_leaves_the_image(name, maps, height, width):
    for x0, y0, x1, y1 in boxes_from_maps(maps[None], (height, width), name)[0]:
        assert 0 <= x0 <= x1 <= width
        assert 0 <= y0 <= y1 <= height
        if RULES[name].empty == 'whole':
            assert x0 < x1
            assert y0 < y1


@pytest.mark.parametrize('name', RULE_NAMES)
@settings(max_examples=60, deadline=None)
@given(maps=MAPS, power=st.integers(-8, 8))
def test_a_scaled_map_gives_the_same_boxes(name, maps, power):
    scaled = maps * np.float32(2.0**power)  # exact, so even pixels on the threshold agree
    for one, other in zip(
        boxes_from_maps(maps[None], (20, 28), name), boxes_from_maps(scaled[None], (20, 28), name)
    ):
        np.testing.assert_array_equal(one, other)


@settings(max_examples=30, deadline=None)
@given(maps=hnp.arrays(np.int32, (4, 4), elements=st.integers(0, 16)), scale=st.integers(1, 1000))
def test_scaled_by_any_number(maps, scale):
    maps = torch.tensor(maps, dtype=torch.float32)[None]
    rule = BoxRule('test', 0.25)  # quarters of whole numbers are exact
    one, other = (boxes_from_maps(m, (8, 8), rule)[0] for m in (maps, maps * scale))
    np.testing.assert_array_equal(one, other)


@settings(max_examples=100, deadline=None)
@given(mask=hnp.arrays(np.uint8, (9, 11), elements=st.integers(0, 1)))
def test_largest_component_equals_flood_fill(mask):
    expected = largest_component_box(mask.tolist()) or (0, 0, 11, 9)
    assert boxes(mask) == [list(expected)]
