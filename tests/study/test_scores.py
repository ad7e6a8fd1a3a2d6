"""Figures of what a run found, on all images and on resampled ones."""

import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mmattn.study import scores
from mmattn.study.record import Outcome, Recorder
from mmattn.study.scores import measure
from mmattn.study.statistics import resample_counts

hotcoco = pytest.importorskip('hotcoco', reason='figures of detectors need hotcoco')
IMAGES = 30


def make_truth(rng, images=IMAGES):
    annotations = []
    for image in range(1, images):  # the first one is empty
        for _ in range(rng.integers(1, 6)):
            box = [*rng.uniform(0, 200, 2), *np.exp(rng.uniform(2.5, 5, 2))]
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=image,
                    category_id=int(rng.integers(0, 3)),
                    bbox=[float(side) for side in box],
                    area=float(box[2] * box[3]),
                    iscrowd=int(rng.random() < 0.1),
                )
            )
    return dict(
        images=[dict(id=n, name=f'n{n}', width=400, height=400) for n in range(images)],
        categories=[dict(id=n, name=f'c{n}') for n in range(3)],
        annotations=annotations,
    )


def make_outcome(truth, rng, noise=6):
    own = [one for one in truth['annotations'] for _ in range(3)]
    boxes = np.array([one['bbox'] for one in own]) + rng.normal(0, noise, (len(own), 4))
    boxes[:, 2:] = boxes[:, 2:].clip(3)
    labels = np.array([one['category_id'] for one in own])
    labels = np.where(rng.random(len(own)) < 0.2, rng.integers(0, 3, len(own)), labels)
    images = np.array([one['image_id'] for one in own])
    scores = rng.random(len(own))
    return Outcome('detection', len(truth['images']), images, boxes, scores, labels)


def evaluator(truth, outcome):
    coco = hotcoco.COCO(
        dict(
            images=[dict(one, file_name='') for one in truth['images']],
            categories=truth['categories'],
            annotations=truth['annotations'],
        )
    )
    parts = (outcome.image[:, None], outcome.boxes, outcome.scores[:, None])
    rows = np.concatenate([*parts, outcome.labels[:, None]], 1)
    found = hotcoco.COCOeval(coco, coco.load_res(rows), 'bbox')
    found.run()
    return found


def test_figures_of_all_images_are_cocos():
    rng = np.random.default_rng(0)
    truth = make_truth(rng)
    outcome = make_outcome(truth, rng)
    found = measure(outcome, truth, np.ones((1, IMAGES), int))
    exact = evaluator(truth, outcome)
    names = ('AP', 'AP50', 'AP75', 'AP small', 'AP medium', 'AP large')
    assert [found[name][0] for name in names] == pytest.approx(100 * exact.stats[:6])
    lost = exact.tide_errors()['delta_ap']
    assert found['wrong place'][0] == pytest.approx(100 * lost['Loc'])
    assert found['missed'][0] == pytest.approx(100 * lost['Miss'])
    for values in found.values():  # a set of every image once is the test itself
        assert values[1] == values[0]


def test_a_resampled_set_holds_its_images_so_many_times():
    rng = np.random.default_rng(1)
    truth = make_truth(rng, images=4)
    outcome = make_outcome(truth, rng)
    found = measure(outcome, truth, np.array([[0, 2, 2, 0]]))
    # the same by hand: images 1 and 2 twice each, under names of their own
    twice = dict(truth, images=[dict(one, id=n) for n, one in enumerate(truth['images'])])
    twice['annotations'] = []
    image, keep = [], []
    for place, old in enumerate((1, 1, 2, 2)):
        for one in truth['annotations']:
            if one['image_id'] == old:
                number = len(twice['annotations']) + 1
                twice['annotations'].append(dict(one, id=number, image_id=place))
        rows = np.flatnonzero(outcome.image == old)
        keep.append(rows)
        image.append(np.full(len(rows), place))
    rows = np.concatenate(keep)
    by_hand = Outcome(
        'detection',
        4,
        np.concatenate(image),
        outcome.boxes[rows],
        outcome.scores[rows],
        outcome.labels[rows],
    )
    assert found['AP'][1] == pytest.approx(100 * evaluator(twice, by_hand).stats[0])
    assert found['AP'][1] != pytest.approx(found['AP'][0])


def test_the_spread_over_resampled_images_is_that_of_leaving_images_out():
    rng = np.random.default_rng(2)
    truth = make_truth(rng)
    one, other = make_outcome(truth, rng), make_outcome(truth, rng, noise=9)
    left_out = np.ones((IMAGES, IMAGES), int) - np.eye(IMAGES, dtype=int)
    counts = np.concatenate([resample_counts(IMAGES, 80), left_out])
    gap = measure(one, truth, counts)['AP50'] - measure(other, truth, counts)['AP50']
    jackknife = np.sqrt((IMAGES - 1) * gap[81:].var())
    assert gap[1:81].std(ddof=1) == pytest.approx(jackknife, rel=0.3)


def test_a_classifier():
    outcome = Outcome(
        'classification', 4, truth=np.array([0, 5, 2, 3]), rank=np.array([0, 4, 9, 0])
    )
    found = measure(outcome, None, np.array([[0, 4, 0, 0], [2, 0, 2, 0]]))
    assert found['top-1'].tolist() == [50, 0, 50]
    assert found['top-5'].tolist() == [75, 100, 50]


def test_outcomes_are_kept_to_a_sixteenth_of_a_pixel(tmp_path):
    rng = np.random.default_rng(3)
    truth = make_truth(rng)
    outcome = make_outcome(truth, rng)
    path = tmp_path / 'seed_0.npz'
    outcome.save(path)
    back = Outcome.load(path)
    assert np.abs(back.boxes - outcome.boxes).max() <= 1 / 32
    assert back.scores == pytest.approx(outcome.scores, rel=1e-6)
    assert (back.image == outcome.image).all()
    assert (back.labels == outcome.labels).all()
    assert (back.kind, back.images) == ('detection', IMAGES)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match='is damaged .* delete it to run again'):
        Outcome.load(path)


def test_what_a_test_of_a_detector_leaves(tmp_path):
    samples = [
        dict(
            img_id=name,
            pred_instances=dict(
                bboxes=torch.tensor([[1.0, 2, 11, 22], [0, 0, 4, 4]])[:count],
                scores=torch.tensor([0.25, 0.75])[:count],
                labels=torch.tensor([2, 1])[:count],
            ),
        )
        for name, count in (('b', 2), ('a', 0))
    ]
    recorder = Recorder(tmp_path / 'out.npz', names=['a', 'b'])
    recorder.process({}, samples)
    assert recorder.evaluate(2) == {}
    found = Outcome.load(tmp_path / 'out.npz')
    assert found.images == 2
    assert found.image.tolist() == [1, 1]
    assert found.boxes.tolist() == [[0, 0, 4, 4], [1, 2, 10, 20]]  # the best first
    assert found.labels.tolist() == [1, 2]


def test_what_a_test_of_a_classifier_leaves(tmp_path):
    scores = torch.tensor([[0.1, 0.7, 0.2], [0.5, 0.5, 0.0]])
    samples = [
        dict(pred_score=score, gt_label=torch.tensor([label]))
        for score, label in zip(scores, (2, 0))
    ]
    recorder = Recorder(tmp_path / 'out.npz')
    recorder.process({}, samples)
    recorder.evaluate(2)
    found = Outcome.load(tmp_path / 'out.npz')
    assert found.truth.tolist() == [2, 0]
    assert found.rank.tolist() == [1, 1]  # a tie does not count as right


def test_figures_are_measured_once_for_a_content(tmp_path, monkeypatch):
    """A checkout gives files new times: only another content is measured again."""
    file, calls = tmp_path / 'seed_0.npz', []
    outcome = Outcome(
        'classification', 4, truth=np.array([0, 1, 2, 3]), rank=np.array([0, 1, 0, 2])
    )
    run = SimpleNamespace(
        label='plain',
        seed=0,
        outcome_file=file,
        outcome=lambda: outcome,
        result=lambda: dict(figures={'accuracy/top1': 50.0}),
    )
    monkeypatch.setattr(scores, 'measure', lambda *args: calls.append(1) or measure(*args))
    found = []
    for content, time in ((b'a', 1), (b'a', 2), (b'b', 2)):
        file.write_bytes(content)
        os.utime(file, (time, time))
        found.append(scores.collect({'plain': {0: run}}, None, tmp_path / 'resampled')[2])
        assert found[-1]['top-1']['plain'].values == {0: 50.0}
    assert len(calls) == 2
    first, second, _ = (one['top-1']['plain'].resampled[0] for one in found)
    assert (first == second).all()
