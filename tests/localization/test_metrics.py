"""IoU, sweep and metrics: values by hand, slow references, and shards in any order."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mmattn.localization.metrics import LocalizationMetrics, hit_in_top, judge
from mmattn.localization.structures import ImageResult
from mmattn.localization.sweep import (
    IOU_THRS,
    iou_matrix,
    level_ious,
    pack,
    sweep,
    threshold_levels,
    unpack,
)
from tests.reference.cam_sweep import components, iou, ious_at_every_threshold


@pytest.mark.parametrize(
    ('a', 'b', 'continuous', 'inclusive'),
    [
        ((0, 0, 4, 4), (0, 0, 4, 4), 1.0, 1.0),
        ((0, 0, 5, 4), (1, 0, 6, 3), 12 / 23, 20 / 34),
        ((0, 0, 2, 10), (0, 2, 2, 12), 16 / 24, 27 / 39),
        ((0, 0, 5, 3), (1, 1, 6, 5), 8 / 27, 15 / 39),
        ((0, 0, 2, 2), (2, 0, 4, 2), 0.0, 3 / 15),  # edges that touch share pixels if inclusive
        ((0, 0, 2, 2), (5, 5, 6, 6), 0.0, 0.0),
        ((0, 0, 0, 0), (0, 0, 0, 0), 0.0, 1.0),
    ],
)
def test_iou_by_hand(a, b, continuous, inclusive):
    assert iou_matrix([a], [b])[0, 0] == pytest.approx(continuous)
    assert iou_matrix([a], [b], 'pixel-inclusive')[0, 0] == pytest.approx(inclusive)


def test_iou_is_a_matrix():
    found = iou_matrix([(0, 0, 2, 2), (0, 0, 4, 4)], [(0, 0, 2, 2), (0, 0, 4, 4), (9, 9, 10, 10)])
    np.testing.assert_allclose(found, [[1, 0.25, 0], [0.25, 1, 0]])
    with pytest.raises(ValueError, match="'continuous' or 'pixel-inclusive', got 'x'"):
        iou_matrix([(0, 0, 1, 1)], [(0, 0, 1, 1)], 'x')


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 9)] * 4), min_size=2, max_size=6))
def test_iou_equals_loops(corners):
    boxes = [(x, y, x + w, y + h) for x, y, w, h in corners]
    for convention, one in (('continuous', 0), ('pixel-inclusive', 1)):
        expected = [[iou(a, b, one) for b in boxes] for a in boxes]
        np.testing.assert_allclose(iou_matrix(boxes, boxes, convention), expected)


def smooth_levels(seed, size=56):
    """A map like an upsampled score map, as whole numbers."""
    import cv2

    small = np.random.default_rng(seed).random((5, 5)).astype(np.float32)
    up = cv2.resize(small, (size, size), interpolation=cv2.INTER_CUBIC)
    return ((up - up.min()) / (up.max() - up.min()) * 255).astype(np.uint8)


@pytest.mark.parametrize('seed', range(6))
def test_sweep_equals_every_threshold(seed):
    levels = smooth_levels(seed)
    truth = [(5, 8, 30, 40), (20.7, 3.2, 50.9, 25.5)]
    thresholds, index = threshold_levels(0.001)
    v1, v2 = level_ious(levels, truth)
    slow1, slow2 = ious_at_every_threshold(levels, truth, thresholds)
    np.testing.assert_array_equal(v1[index], slow1)
    np.testing.assert_array_equal(v2[index], slow2)
    assert slow1.max() > 0.3
    assert (slow2 >= slow1).all()
    assert_same_hits(sweep(levels, truth), index, (slow1, slow2))
    assert (level_ious(levels, truth, floor=0.3)[1] == 0).sum() > (v2 == 0).sum()  # left out


def assert_same_hits(hits, index, slow):
    """The packed hits are those of the IoU values at every threshold."""
    for name, ious in zip(('v1', 'v2'), slow):
        for text, iou_thr in zip(hits[name], IOU_THRS):
            np.testing.assert_array_equal(unpack(text)[index], ious >= iou_thr)


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.uint8, (9, 9), elements=st.integers(0, 255)))
def test_sweep_equals_every_threshold_on_noise(noise):
    noise[0, 0], noise[8, 8] = 0, 255
    truth = [(1, 2, 6, 7)]
    thresholds, index = threshold_levels(0.003)
    fast, slow = level_ious(noise, truth), ious_at_every_threshold(noise, truth, thresholds)
    np.testing.assert_array_equal(fast[0][index], slow[0])
    np.testing.assert_array_equal(fast[1][index], slow[1])
    assert_same_hits(sweep(noise, truth), index, slow)


def test_sweep_equals_flood_fill():
    levels = smooth_levels(1, 28)
    truth = (4, 4, 17, 20)
    _, v2 = level_ious(levels, [truth])
    checked = 0
    for level in range(0, 255, 5):
        parts = components((levels > level).tolist())
        boxes = []
        for part in parts:
            rows, columns = [p[0] for p in part], [p[1] for p in part]
            right, bottom = min(max(columns) + 1, 27), min(max(rows) + 1, 27)
            boxes.append((min(columns), min(rows), right, bottom))
        best = max((iou(box, truth, 1) for box in boxes), default=iou((0, 0, 0, 0), truth, 1))
        if best > v2[level]:  # a hole's border can only add
            raise AssertionError((level, best, v2[level]))
        checked += best == pytest.approx(v2[level])
    assert checked > 45


def test_sweep_of_odd_maps():
    zero = np.zeros((8, 8), np.uint8)
    for values in level_ious(zero, [(0, 0, 3, 3)]):
        np.testing.assert_allclose(values, 1 / 16)  # box 0 0 0 0 holds one pixel
    full = np.full((8, 8), 9, np.uint8)
    for values in level_ious(full, [(0, 0, 7, 7)]):
        np.testing.assert_allclose(values, [1] * 9 + [1 / 64] * 247)
    assert level_ious(full, np.zeros((0, 4)))[0].max() == 0


def test_sweep_at_a_level_by_hand():
    levels = np.zeros((10, 10), np.uint8)
    levels[2:6, 2:6] = 100
    levels[2:4, 2:4] = 255
    v1, _ = level_ious(levels, [(2, 2, 5, 5)])
    # level 0..99: box 2 2 6 6 has 25 pixels, truth 16, both 16; level 100..254: box 2 2 4 4
    np.testing.assert_allclose(v1[:100], 16 / 25)
    np.testing.assert_allclose(v1[100:255], 9 / 16)
    np.testing.assert_allclose(v1[255], 0)


def test_bits_survive_text():
    hits = np.random.default_rng(0).random(256) > 0.5
    assert len(pack(hits)) == 64
    np.testing.assert_array_equal(unpack(pack(hits)), hits)
    with pytest.raises(ValueError, match=r'sweep step must be in \(0, 0.5\], got 2'):
        threshold_levels(2)


def result(key, label=3, top5=(3, 1, 2, 0, 4), iou=0.6, **more):
    return ImageResult(key, label, top5, iou, **more)


@pytest.mark.parametrize(
    ('top5', 'iou', 'expected'),
    [
        ((3, 1, 2, 0, 4), 0.5, (True, True, True, True, True)),  # 0.5 counts
        ((3, 1, 2, 0, 4), 0.49, (True, True, False, False, False)),
        ((1, 2, 3, 0, 4), 0.9, (False, True, True, False, True)),
        ((1, 2, 0, 4, 5), 0.9, (False, False, True, False, False)),
        ((1, 3), 0.9, (False, True, True, False, True)),  # a classifier with two classes
    ],
)
def test_counted_answers(top5, iou, expected):
    assert judge(result('a', top5=top5, iou=iou)) == expected


@settings(max_examples=200, deadline=None)
@given(
    label=st.integers(0, 9),
    top5=st.permutations(range(10)).map(lambda p: tuple(p[:5])),
    ious=st.lists(st.floats(0, 1), min_size=10, max_size=10),
    k=st.integers(1, 5),
)
def test_the_shortcut_equals_the_long_way(label, top5, ious, k):
    """Each class has its own map and so its own box with its own IoU."""
    short = ImageResult('a', label, top5, ious[label])
    long = replace(short, class_ious=tuple(ious[c] for c in top5))
    by_rule = any(c == label and ious[c] >= 0.5 for c in top5[:k])
    assert hit_in_top(short, k) == hit_in_top(long, k) == by_rule


def random_results(count, seed=0):
    rng = np.random.default_rng(seed)
    out = []
    for i in range(count):
        levels = smooth_levels(int(rng.integers(4)), 20)
        corner = rng.integers(0, 10, 2)
        truth = [(*corner, *(corner + rng.integers(4, 10, 2)))]
        top5 = tuple(int(v) for v in rng.permutation(8)[:5])
        label = int(rng.integers(8))
        out.append(result(f'p{i}', label, top5, float(rng.random()), sweep=sweep(levels, truth)))
    out.append(ImageResult('broken', 1, error='cannot decode'))
    return out


RESULTS = random_results(30)


def measure(results, **options):
    metrics = LocalizationMetrics(replicates=50, **options)
    for item in results:
        metrics.update(item)
    return metrics


@settings(max_examples=20, deadline=None)
@given(order=st.permutations(range(len(RESULTS))), cuts=st.lists(st.integers(0, 31), max_size=4))
def test_merging_shards_in_any_order(order, cuts):
    expected = measure(RESULTS).summary()
    shuffled = [RESULTS[i] for i in order]
    edges = [0, *sorted(cuts), len(shuffled)]
    shards = [measure(shuffled[a:b]) for a, b in zip(edges, edges[1:])]
    merged = shards.pop()
    for shard in shards:
        merged.merge(shard)
    assert merged.summary() == expected
    assert merged.class_table() == measure(RESULTS).class_table()


def test_summary_by_hand():
    near = dict(v1=('f' * 64, 'f' * 32 + '0' * 32, '0' * 64), v2=('f' * 64, 'f' * 64, '0' * 64))
    late = dict(v1=('f' * 64, '0' * 16 + 'f' * 48, '0' * 64), v2=('f' * 64, 'f' * 64, '0' * 64))
    metrics = LocalizationMetrics(replicates=200)
    metrics.update(result('a', sweep=near))
    metrics.update(result('b', top5=(1, 3), iou=0.7, sweep=late))
    metrics.update(result('c', iou=0.1))
    metrics.update(ImageResult('d', 3, error='cannot decode'))
    summary = metrics.summary()
    assert summary['images'] == 3
    assert summary['failed'] == 1
    assert summary['gt_known'] == pytest.approx(2 / 3)
    assert summary['top1_cls'] == pytest.approx(2 / 3)
    assert summary['top1_loc'] == pytest.approx(1 / 3)
    assert summary['top5_loc'] == pytest.approx(2 / 3)
    assert summary['max_box_acc'] == 1.0  # both at levels 64 to 127
    assert summary['best_threshold']['max_box_acc'] == 0.251  # the first that means level 64
    assert summary['max_box_acc_v2'] == pytest.approx((1 + 1 + 0) / 3)
    assert summary['max_box_acc_v2_parts'] == {'0.3': 1.0, '0.5': 1.0, '0.7': 0.0}
    assert json.loads(json.dumps(summary)) == summary
    low, high = summary['interval_95']['gt_known']
    assert 0 <= low < 2 / 3 < high <= 1
    curve = metrics.curves()['v1'][1]
    np.testing.assert_allclose([curve[0], curve[400], curve[900]], [0.5, 1.0, 0.5])


def test_each_iou_has_its_own_best_threshold():
    early = ('f' * 32 + '0' * 32, '0' * 64, '0' * 64)  # IoU 0.3 at the lower half of the levels
    late = ('0' * 32 + 'f' * 32, '0' * 32 + 'f' * 32, '0' * 64)  # 0.5 at the upper half
    metrics = LocalizationMetrics(replicates=0)
    for key, hits in [('a', early), ('b', early), ('c', late)]:
        metrics.update(result(key, sweep=dict(v1=hits, v2=hits)))
    summary = metrics.summary()
    assert summary['max_box_acc'] == pytest.approx(1 / 3)
    assert summary['max_box_acc_v2'] == pytest.approx((2 / 3 + 1 / 3 + 0) / 3)
    assert summary['best_threshold']['max_box_acc_v2'] == {'0.3': 0, '0.5': 0.502, '0.7': 0}


def test_intervals_have_the_binomial_width():
    metrics = LocalizationMetrics(step=0.5, replicates=1000)
    for i in range(100):
        metrics.update(result(f'image {i}', iou=float(i % 4 == 0)))
    low, high = metrics.summary()['interval_95']['gt_known']
    width = 1.96 * (0.25 * 0.75 / 100) ** 0.5
    assert low == pytest.approx(0.25 - width, abs=0.01)
    assert high == pytest.approx(0.25 + width, abs=0.01)


def test_class_table():
    metrics = LocalizationMetrics(replicates=0)
    metrics.update(result('a', label=1, top5=(1,), iou=0.9))
    metrics.update(result('b', label=1, top5=(0,), iou=0.9))
    metrics.update(result('c', label=0, top5=(0,), iou=0.1))
    rows = metrics.class_table(['cat', 'dog'])
    assert [(r['name'], r['images'], r['gt_known'], r['top1_loc']) for r in rows] == [
        ('cat', 1, 0.0, 0.0),
        ('dog', 2, 1.0, 0.5),
    ]
    assert metrics.class_table()[0]['name'] == 'class 0'


def test_other_settings_cannot_merge():
    with pytest.raises(ValueError, match='cannot merge metrics with other settings'):
        LocalizationMetrics(iou_thr=0.5).merge(LocalizationMetrics(iou_thr=0.7))
    with pytest.raises(ValueError, match=r'iou_thr must be in \(0, 1\], got 0'):
        LocalizationMetrics(iou_thr=0)


def test_empty():
    summary = LocalizationMetrics().summary()
    assert summary['images'] == 0
    assert summary['gt_known'] == 0
    assert summary['max_box_acc'] is None
