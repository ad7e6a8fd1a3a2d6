"""The most confident step and the union over steps: predictions, losses and the metric by hand."""

import json

import pytest
import torch

pytest.importorskip('mmpretrain')

from mmpretrain.registry import METRICS, MODELS
from mmpretrain.structures import DataSample
from torch.nn import functional as F

from mmattn.backbones.top_down import at_step
from mmattn.classifiers import step_classifier
from mmattn.testing import randomise
from tests.values import image

CONFIG = dict(
    type='mmattn.StepClassifier',
    backbone=dict(
        type='mmattn.TDResNet', depth=18, base_channels=8, reduction=4, steps=3, out_indices=(3,)
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=5, in_channels=64),
)


def build(**changes):
    # with these values the images differ in their most confident step
    return randomise(MODELS.build({**CONFIG, **changes}), seed=1).double().eval()


def samples(*labels):
    return [DataSample().set_gt_label(label) for label in labels]


def scores_by_hand(model, inputs):
    """The scores of every step, image by image."""
    found = []
    for step in (1, 2, 3):
        with at_step(model, step), torch.no_grad():
            found.append([model(inputs[n : n + 1], mode='tensor')[0] for n in range(len(inputs))])
    return found


def most_confident(steps, n):
    probabilities = [F.softmax(step[n], 0).max().item() for step in steps]
    return probabilities.index(max(probabilities))


def test_it_predicts_the_most_confident_step():
    model, inputs = build(), 3 * image(6, 3, 64, 64).detach()
    steps = scores_by_hand(model, inputs)
    with torch.no_grad():
        found = model(inputs, samples(0, 1, 2, 3, 4, 0), mode='predict')
    chosen = [most_confident(steps, n) for n in range(6)]
    assert len(set(chosen)) > 1
    for n, sample in enumerate(found):
        torch.testing.assert_close(sample.pred_score, F.softmax(steps[chosen[n]][n], 0))
        expected = torch.stack([F.softmax(step[n], 0) for step in steps])
        torch.testing.assert_close(sample.step_scores, expected)
        assert 'kept' not in sample
    torch.testing.assert_close(model(inputs), torch.stack(steps[2]))  # raw: the last step


def test_the_union_keeps_by_boxes(monkeypatch):
    model, inputs = build(rule='union'), image(2, 3, 64, 64)
    asked = []

    def boxes(cams, size, rule):
        asked.append((cams, size, rule))
        left, right = torch.tensor([[0, 0, 10, 10]]), torch.tensor([[20, 0, 30, 10]])
        return [left, right if len(asked) == 2 else left]  # image 1: step 2 looks elsewhere

    monkeypatch.setattr(step_classifier, 'boxes_from_maps', boxes)
    steps = scores_by_hand(model, inputs)
    with torch.no_grad():
        found = model(inputs, mode='predict')
        with at_step(model, 1):
            out = model.backbone(inputs)[-1]
    best = most_confident(steps, 0)
    assert found[0].kept[-1] == best and len(set(found[1].kept.tolist())) == 2
    cams, size, rule = asked[0]
    label = steps[0][1].argmax()
    expected = (model.head.fc.weight[label][:, None, None] * out[1]).sum(0)
    torch.testing.assert_close(cams[1], expected)
    assert (size, rule) == ((64, 64), 'tdam')


def test_the_losses_by_hand():
    inputs, labels = image(4, 3, 64, 64), [0, 1, 2, 3]
    model = build()
    steps = scores_by_hand(model, inputs)
    chosen = torch.stack([steps[most_confident(steps, n)][n] for n in range(4)])
    found = model(inputs, samples(*labels), mode='loss')
    torch.testing.assert_close(found['loss'], F.cross_entropy(chosen, torch.tensor(labels)))

    total = 0.0
    for n, label in enumerate(labels):
        each = [F.cross_entropy(step[n][None], torch.tensor([label])) for step in steps]
        surest = steps[each.index(min(each))][n].argmax()
        total += sum(loss for loss, step in zip(each, steps) if step[n].argmax() == surest)
    model = build(rule='union')
    found = model(inputs, samples(*labels), mode='loss')['loss']
    torch.testing.assert_close(found, total / (4 * 3))
    found.backward()
    assert all(p.grad is not None for p in model.parameters())


def predicted(label, scores, kept=None):
    found = dict(gt_label=torch.tensor([label]), step_scores=torch.tensor(scores))
    return found if kept is None else dict(found, kept=torch.tensor(kept))


def test_the_metric_by_hand(tmp_path):
    file = tmp_path / 'a/steps.json'
    metric = METRICS.build(dict(type='mmattn.StepAccuracy', topk=(1, 2), file=str(file)))
    right, wrong = [0.7, 0.2, 0.1], [0.1, 0.8, 0.1]
    metric.process(None, [
        predicted(0, [right, wrong], [0, 1]),  # the most confident step is wrong, the union right
        predicted(0, [right, wrong], [1, 1]),  # ... and stands for both
        predicted(0, [right, right], [0, 0]),
        predicted(2, [right, wrong], [0, 1]),
    ])  # fmt: skip
    found = metric.evaluate(4)
    assert found == {
        'steps/step_1_top1': 75.0,
        'steps/step_1_top2': 75.0,
        'steps/step_2_top1': 25.0,
        'steps/step_2_top2': 75.0,
        'steps/confident_top1': 25.0,
        'steps/confident_top2': 75.0,
        'steps/union_top1': 50.0,
        'steps/union_top2': 75.0,
        'steps/union_several': 50.0,
    }
    written = json.loads(file.read_text())
    assert [step['top1_cls'] for step in written['steps']] == [0.75, 0.25]
    assert written['confident'] == dict(top1_cls=0.25, top2_cls=0.75)
    assert written['union'] == dict(top1_cls=0.5, top2_cls=0.75, several=0.5)


def test_the_metric_without_boxes_has_no_union():
    metric = METRICS.build(dict(type='mmattn.StepAccuracy'))
    metric.process(None, [predicted(0, [[0.6, 0.4], [0.3, 0.7]])])
    found = metric.evaluate(1)
    assert 'steps/union_top1' not in found
    assert found['steps/step_2_top5'] == 100  # two classes


@pytest.mark.parametrize(
    'changes, error, match',
    [
        (dict(rule='best'), ValueError, r"rule must be one of .*, got 'best'"),
        (
            dict(backbone=dict(type='ResNet', depth=18)),
            ValueError,
            'backbone must have top-down blocks .*, got ResNet with none',
        ),
        (
            dict(rule='union', neck=None, head=dict(type='ClsHead')),
            TypeError,
            'head must have one linear layer fc .*, got ClsHead',
        ),
        (dict(head=None), TypeError, 'head must be a dict, .*, got None'),
    ],
    ids=['rule', 'plain', 'head', 'no head'],
)
def test_bad_options(changes, error, match):
    with pytest.raises(error, match=match):
        MODELS.build({**CONFIG, **changes})


def test_the_metric_needs_steps():
    metric = METRICS.build(dict(type='mmattn.StepAccuracy'))
    with pytest.raises(ValueError, match='test with model.type=mmattn.StepClassifier'):
        metric.process(None, [dict(gt_label=torch.tensor([0]), pred_score=torch.tensor([1.0]))])
    with pytest.raises(ValueError, match='topk must be whole numbers >= 1, got'):
        METRICS.build(dict(type='mmattn.StepAccuracy', topk=(0,)))
