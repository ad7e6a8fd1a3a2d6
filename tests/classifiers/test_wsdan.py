"""WS-DAN against loops: pooling, centres, crops, drops, losses and the mean of two looks."""

import pytest
import torch

pytest.importorskip('mmpretrain')

from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from torch.nn import functional as F

from mmattn.classifiers import wsdan
from mmattn.classifiers.wsdan import attention_boxes, attention_crop, attention_drop
from mmattn.heads import WSDANHead
from mmattn.heads.wsdan_head import bilinear_attention_pooling
from mmattn.testing import randomise
from tests.reference import wsdan as reference
from tests.values import image

CONFIG = dict(
    type='mmattn.WSDAN',
    backbone=dict(type='ResNet', depth=18, base_channels=4, stem_channels=4, norm_eval=False),
    head=dict(type='mmattn.WSDANHead', num_classes=3, in_channels=32, maps=4),
)


def build(**changes):
    torch.manual_seed(0)
    return randomise(MODELS.build({**CONFIG, **changes})).double()


def samples(*labels):
    return [DataSample().set_gt_label(label) for label in labels]


def attention(*shape, seed=0):
    return image(*shape, seed=seed).detach().abs()


def test_pooling_is_the_loop():
    features = image(2, 3, 4, 5).requires_grad_()
    maps = attention(2, 2, 4, 5, seed=1)
    found = bilinear_attention_pooling(features, maps)
    expected = reference.bilinear_attention_pooling(features, maps)
    torch.testing.assert_close(found, expected)
    weights = image(2, 6, seed=2)
    gradients = [
        torch.autograd.grad((out * weights).sum(), features)[0] for out in (found, expected)
    ]
    torch.testing.assert_close(*gradients)


def test_pooling_is_in_float32_under_autocast():
    features, maps = image(2, 3, 4, 5).detach().float(), attention(2, 2, 4, 5, seed=1).float()
    expected = bilinear_attention_pooling(features, maps)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        found = bilinear_attention_pooling(features, maps)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_scores_and_loss_of_the_head_alone():
    head = randomise(WSDANHead(3, 2, maps=4)).double().eval()
    x, labels = image(2, 2, 3, 5).detach(), torch.tensor([2, 0])
    conv, norm, _ = head.attention
    out = torch.einsum('mc,nchw->nmhw', conv.weight[:, :, 0, 0], x)
    out = (out - _wide(norm.running_mean)) / (_wide(norm.running_var) + 1e-3).sqrt()
    maps = (out * _wide(norm.weight) + _wide(norm.bias)).clamp(min=0)
    pooled = reference.bilinear_attention_pooling(x, maps)
    scores = 100 * pooled @ head.fc.weight.T
    torch.testing.assert_close(head((x,)), scores)
    losses = head.loss((x,), samples(2, 0))
    torch.testing.assert_close(losses['loss'], F.cross_entropy(scores, labels))
    expected, _ = reference.centre_step(head.centres, pooled, labels, 0.05)
    torch.testing.assert_close(losses['loss_centre'], expected)


def _wide(values):
    return values[None, :, None, None]


def test_the_centres_move_with_every_image_of_a_class():
    head = randomise(WSDANHead(3, 2, maps=2, beta=0.05)).double().train()
    head.centres.copy_(image(3, 4, seed=1))
    head.centres[0] = 0  # a class not seen so far
    pooled = F.normalize(image(4, 4, seed=2)).requires_grad_()
    labels = [1, 0, 1, 2]
    expected, moved = reference.centre_step(head.centres, pooled, labels, 0.05)
    loss = head.centre_loss(pooled, samples(*labels))
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(head.centres, moved)
    head.eval().centre_loss(pooled, samples(*labels))
    torch.testing.assert_close(head.centres, moved)  # a test moves nothing
    gradients = [torch.autograd.grad(value, pooled)[0] for value in (loss, expected)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize('margin', [0.0, 0.1, 0.3])
def test_crops_and_drops_are_the_loops(margin):
    images, maps = image(3, 3, 20, 24).detach(), attention(3, 5, 6, seed=3)
    maps[2] = 0
    shares = torch.tensor([0.5, 0.9, 0.4], dtype=maps.dtype)
    boxes = attention_boxes(maps, shares, (20, 24), margin)
    crops = attention_crop(images, maps, shares, margin)
    drops = attention_drop(images, maps, shares)
    for n in range(3):
        assert tuple(boxes[n].tolist()) == reference.box(maps[n], shares[n], 20, 24, margin)
        expected = reference.crop(images[n], maps[n], shares[n], margin)
        torch.testing.assert_close(crops[n], expected)
        torch.testing.assert_close(drops[n], reference.drop(images[n], maps[n], shares[n]))
    torch.testing.assert_close(crops[2], images[2])  # an empty map cuts nothing
    torch.testing.assert_close(drops[2], images[2])


def test_a_box_by_hand():
    maps = torch.zeros(1, 4, 4)
    maps[0, 1, 2] = 1.0
    (found,) = attention_boxes(maps, torch.tensor([1.0]), (4, 4), 0).tolist()
    assert found == [2, 1, 3, 2]
    (found,) = attention_boxes(maps, torch.tensor([1.0]), (4, 4), 0.25).tolist()
    assert found == [1, 0, 4, 3]


def test_losses_are_those_of_three_looks(monkeypatch):
    model = build(crop_thr=(0.5, 0.5), drop_thr=(0.3, 0.3)).eval()  # norms as they are
    chosen = iter([[1, 0], [2, 3]])  # for the crops, then for the drops
    monkeypatch.setattr(
        model, '_draw_maps', lambda maps: torch.stack([m[k] for m, k in zip(maps, next(chosen))])
    )
    inputs, labels = image(2, 3, 64, 64), torch.tensor([2, 0])
    losses = model(inputs, samples(2, 0), mode='loss')

    pooled, maps = model.head.attend(model.extract_feat(inputs))
    crops = torch.stack(
        [reference.crop(inputs[n], maps[n, k], 0.5, 0.1) for n, k in enumerate((1, 0))]
    )
    drops = torch.stack([reference.drop(inputs[n], maps[n, k], 0.3) for n, k in enumerate((2, 3))])
    for name, images in dict(whole=inputs, crop=crops, drop=drops).items():
        expected = F.cross_entropy(model(images), labels) / 3
        torch.testing.assert_close(losses[f'loss_{name}'], expected)
    expected, _ = reference.centre_step(model.head.centres, pooled, labels, 0.05)
    torch.testing.assert_close(losses['loss_centre'], expected)
    assert sorted(losses) == ['loss_centre', 'loss_crop', 'loss_drop', 'loss_whole']


@pytest.mark.parametrize('share, options', [(0.1, {}), (0.9, dict(test_thr=0.9))])
def test_a_prediction_is_the_mean_of_whole_image_and_crop(share, options):
    model, inputs = build(**options).eval(), image(2, 3, 64, 64)
    with torch.no_grad():
        found = model(inputs, mode='predict')
        maps = model.head.attend(model.extract_feat(inputs))[1].mean(1)
        crops = torch.stack([reference.crop(inputs[n], maps[n], share, 0.05) for n in range(2)])
        assert share < 0.9 or not torch.allclose(crops, inputs)
        expected = (model(inputs).softmax(1) + model(crops).softmax(1)) / 2
    torch.testing.assert_close(torch.stack([s.pred_score for s in found]), expected)
    assert [s.pred_label.item() for s in found] == expected.argmax(1).tolist()


def test_shares_are_drawn_for_each_image(monkeypatch):
    seen = []
    for name in ('attention_crop', 'attention_drop'):
        monkeypatch.setattr(wsdan, name, lambda images, maps, shares, *_: seen.append(shares))
    build().augment(image(50, 3, 8, 8).detach(), attention(50, 4, 2, 2))
    for shares, (low, high) in zip(seen, [(0.4, 0.6), (0.2, 0.5)], strict=True):
        assert len(shares.unique()) > 40
        assert low <= shares.min() < low + 0.1 and high - 0.1 < shares.max() <= high


def test_every_parameter_learns_and_maps_are_drawn():
    model = build().train()
    losses = model(image(2, 3, 64, 64), samples(0, 1), mode='loss')
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())
    assert model.head.centres.abs().sum() > 0
    drawn = [model._draw_maps(torch.arange(4.0).expand(1, 4)[..., None, None]) for _ in range(99)]
    assert {value.item() for value in drawn} == {0, 1, 2, 3}


@pytest.mark.parametrize(
    'options, match',
    [
        (dict(num_classes=0), 'num_classes must be >= 1, got 0'),
        (dict(maps=0), 'maps must be >= 1, got 0'),
        (dict(beta=2), 'beta must be from 0 to 1, got 2'),
        (dict(centre_weight=-1), 'centre_weight must be >= 0, got -1'),
    ],
    ids=['classes', 'maps', 'beta', 'weight'],
)
def test_bad_options_of_the_head(options, match):
    with pytest.raises(ValueError, match=match):
        WSDANHead(**{'num_classes': 3, 'in_channels': 2, **options})


@pytest.mark.parametrize(
    'options, error, match',
    [
        (dict(crop_thr=(0.6, 0.4)), ValueError, r'crop_thr must be \(low, high\) .*, got'),
        (dict(drop_thr=(0.2, 1.4)), ValueError, r'drop_thr must be \(low, high\) .*, got'),
        (dict(test_thr=2), ValueError, 'test_thr must be from 0 to 1, got 2'),
        (dict(margin=(0.1, -1)), ValueError, r'margin must be two values >= 0 .*, got'),
        (
            dict(head=dict(type='LinearClsHead', num_classes=3, in_channels=32)),
            TypeError,
            'head must be a mmattn.WSDANHead, got LinearClsHead',
        ),
    ],
    ids=['order', 'above 1', 'test', 'margin', 'head'],
)
def test_bad_options_of_the_model(options, error, match):
    with pytest.raises(error, match=match):
        MODELS.build({**CONFIG, **options})


def test_what_has_no_centre_or_no_map_is_refused():
    model = build()
    mixed = [DataSample().set_gt_score(torch.tensor([0.5, 0.5, 0])) for _ in range(2)]
    with pytest.raises(ValueError, match='labels must be one class an image, got mixed ones'):
        model.head.centre_loss(torch.zeros(2, 128), mixed)
    with pytest.raises(TypeError, match='needs maps .*neck=None'):
        model.head((torch.zeros(2, 32),))
