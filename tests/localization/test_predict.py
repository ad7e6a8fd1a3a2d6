"""``mmattn.localize``: the boxes and figures of the command line, in Python."""

import json

import numpy as np
import pytest
import torch
from torch import nn

import mmattn
from mmattn.data.folders import find_images
from mmattn.localization.annotations import load_annotations
from mmattn.localization.api import evaluate
from mmattn.localization.boxes import get_rule
from mmattn.localization.classifiers import Classifier, as_classifier
from mmattn.localization.drawing import explain
from mmattn.localization.images import Preprocess
from mmattn.localization.localizer import Localizer, Settings
from mmattn.localization.predict import predict
from mmattn.localization.results import RunPlan
from mmattn.localization.structures import AnnotatedImage
from tests.localization.data import boxes_json, image
from tests.localization.nets import gap_net, tiny

NET = 'python:tests.localization.nets:tiny'


def small(**values):
    net, preprocess = tiny()
    preprocess = {k: tuple(v) for k, v in preprocess.items()}
    return Classifier(net, Preprocess(**preprocess), **values)


@pytest.mark.parametrize('maps', ['true', 'top5'])
def test_with_annotations_it_gives_what_a_run_writes(tmp_path, maps):
    images, boxes = boxes_json(tmp_path)
    values = dict(batch_size=3, sweep_step=0.01, maps=maps, iou_thr=0.06)
    settings = Settings(rule=get_rule('cam-0.20'), **values)
    plan = RunPlan(settings, tmp_path / 'run')
    summary = evaluate(small(), load_annotations(boxes, images), plan)
    lines = [json.loads(line) for line in (tmp_path / 'run/per_image.jsonl').open()]
    found = mmattn.localize(NET, images, boxes, rule='cam-0.20', **values)
    assert [item.path.name for item in found] == [line['key'] for line in lines]
    for item, line in zip(found, lines):
        assert item.boxes_xyxy == tuple(map(tuple, line['boxes_xyxy']))
        assert (item.label, item.iou, item.error) == (line['label'], line['iou'], None)
        assert item.size == tuple(line['image_size'])
    assert found.metrics['gt_known'] > 0
    for key, value in found.metrics.items():
        assert summary[key] == value, key


def test_without_annotations_each_image_gets_its_best_class(tmp_path):
    images, _ = boxes_json(tmp_path)
    classifier = small(classes=('a', 'b', 'c', 'd'))
    found = mmattn.localize(classifier, images, batch_size=2, rule='gradcam-0.30')
    assert found.metrics is None
    assert found.classes == ('a', 'b', 'c', 'd')
    settings = Settings(rule=get_rule('gradcam-0.30'))
    with Localizer(classifier, settings) as localizer:
        drawn = [explain(localizer, item.path)[0] for item in found]
    for item, overlay in zip(found, drawn, strict=True):
        np.testing.assert_allclose(item.boxes_xyxy, overlay.boxes_xyxy, atol=0.005)
        assert (item.label, item.iou) == (overlay.label, None)
        assert item.score == pytest.approx(overlay.score, rel=1e-5)


def test_a_label_is_explained_and_its_probability_given(tmp_path):
    images, _ = boxes_json(tmp_path, 3)
    rule = 'gradcam-0.90'
    every = [mmattn.localize(small(), images, label=label, rule=rule) for label in range(4)]
    assert [found[0].label for found in every] == [0, 1, 2, 3]
    assert sum(found[0].score for found in every) == pytest.approx(1)
    assert len({found[0].boxes_xyxy for found in every}) > 1


def test_an_image_that_cannot_be_read_is_an_entry(tmp_path):
    images, _ = boxes_json(tmp_path, 3)
    (images / 'p1.png').write_text('no image')
    found = mmattn.localize(small(), images, batch_size=2)
    assert [item.error is None for item in found] == [True, False, True]
    assert str(images / 'p1.png') in found[1].error
    assert (found[1].boxes_xyxy, found[1].label, found[1].iou) == ((), None, None)


@pytest.mark.parametrize('workers', [0, 2])
def test_predict_streams_in_order(tmp_path, workers):
    images, _ = boxes_json(tmp_path, 7)
    asked = [AnnotatedImage(path.name, path) for path in find_images(images)]
    results = list(predict(small(), asked, Settings(batch_size=2, sweep_step=0), workers=workers))
    assert [result.key for result in results] == [f'p{i}.png' for i in range(7)]
    assert all(result.top5[0] == result.label for result in results)
    assert all(result.score == result.label_score for result in results)


def test_mode_and_device_of_a_network_stay(tmp_path):
    images, _ = boxes_json(tmp_path, 2)
    net = gap_net(4).train()
    found = mmattn.localize(net, images)
    assert net.training
    assert all(p.requires_grad for p in net.parameters())
    with torch.no_grad():
        other = mmattn.localize(net, images)
    assert found == other


def test_every_way_to_name_images(tmp_path, monkeypatch):
    for name in ('a/x.jpg', 'a/b/y.png', 'z.JPG'):
        image(tmp_path / name, 30, 20)
    (tmp_path / 'a/notes.txt').write_text('')
    monkeypatch.chdir(tmp_path)

    def names(images):
        return [path.as_posix() for path in find_images(images)]

    assert names('.') == ['a/b/y.png', 'a/x.jpg', 'z.JPG']
    assert names('a/x.jpg') == ['a/x.jpg']
    assert names('a/*') == ['a/x.jpg']
    assert names('**/*') == ['a/b/y.png', 'a/x.jpg', 'z.JPG']
    assert names(['z.JPG', tmp_path / 'a/x.jpg', 'z.JPG', 'a/b']) == [
        'z.JPG',
        (tmp_path / 'a/x.jpg').as_posix(),
        'a/b/y.png',
    ]
    image(tmp_path / 'c[1].png', 30, 20)  # a file is a file, whatever its name
    assert names('c[1].png') == ['c[1].png']


@pytest.mark.parametrize(
    ('images', 'kind', 'message'),
    [
        ('nope', ValueError, 'images: nope is no file, no folder and matches no image'),
        ('no*.png', ValueError, r'images: no\*.png is no file'),
        ([], ValueError, 'images is empty'),
        (3, TypeError, 'images must be a path or a list of paths, got int'),
        (['p0.png', 4], TypeError, r'images\[1\] must be a path, got int'),
    ],
)
def test_images_that_are_not_there(tmp_path, monkeypatch, images, kind, message):
    image(tmp_path / 'p0.png', 30, 20)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kind, match=message):
        mmattn.localize(small(), images)


@pytest.mark.parametrize(
    ('options', 'kind', 'message'),
    [
        (dict(rule='x'), ValueError, 'rule must be one of'),
        (dict(cam='x'), ValueError, "cam must be one of .*, got 'x'"),
        (dict(batchsize=3), TypeError, "no argument 'batchsize', did you mean 'batch_size'?"),
        (dict(colour=3), TypeError, "no argument 'colour'; settings are cam, rule"),
        (dict(batch_size='8'), TypeError, "batch_size must be an integer, got '8'"),
        (dict(label=4), ValueError, 'label must be 0 to 3, got 4'),
        (dict(label='cat'), TypeError, "label must be an integer or None, got 'cat'"),
        (dict(weights='w.pth'), ValueError, "weights belong to .*, got 'w.pth' beside a Class"),
        (dict(annotations='nope.json'), ValueError, 'annotations: nope.json does not exist'),
        (dict(annotations='b.json', label=1), ValueError, 'label must be None where there are'),
        (dict(annotations=3), TypeError, 'annotations must be a text, a path or None, got 3'),
        (dict(weights=3), TypeError, 'weights must be a text, a path or None, got 3'),
        (dict(synsets='x.txt'), ValueError, "synsets are for annotations, got 'x.txt' alone"),
        (dict(iou_thr=2), ValueError, r'iou_thr must be in \(0, 1\], got 2'),
        (dict(workers=-1), ValueError, 'workers must be 0 or more, got -1'),
        (dict(workers='2'), TypeError, "workers must be an integer, got '2'"),
        (dict(device='tpu9'), ValueError, "device: 'tpu9' is not known to torch"),
        (dict(device='xla'), ValueError, 'device: xla is not there; use cpu'),
        (dict(device=0.5), TypeError, 'device must be a name or a torch.device, got 0.5'),
    ],
)
def test_other_bad_input(tmp_path, options, kind, message):
    images, _ = boxes_json(tmp_path, 2)
    with pytest.raises(kind, match=message):
        mmattn.localize(small(), images, **options)


@pytest.mark.parametrize(
    ('model', 'kind', 'message'),
    [
        ('resnet18', ValueError, 'model must be one of mmpretrain:...'),
        (len, TypeError, "model must be an nn.Module, a Classifier or a text as 'torchvision:"),
        (nn.Flatten(), ValueError, 'no layer of this network returns a map'),
        (nn.Conv2d(3, 4, 1), ValueError, r'scores of shape \(N, classes\)'),
    ],
)
def test_models_that_do_not_fit(tmp_path, model, kind, message):
    images, _ = boxes_json(tmp_path, 2)
    with pytest.raises(kind, match=message):
        mmattn.localize(model, images)


def test_annotations_that_do_not_match_are_refused_unless_allowed(tmp_path):
    images, boxes = boxes_json(tmp_path, 4)
    (images / 'p2.png').unlink()
    with pytest.raises(
        ValueError, match=r'do not match \(1 x missing file; first p2.png: no such'
    ):
        mmattn.localize(small(), images, boxes)
    found = mmattn.localize(small(), images, boxes, allow_missing=True, sweep_step=0)
    assert len(found) == found.metrics['images'] == 3
    assert found.metrics['problems'] == {'missing file': 1}
    assert found.metrics['max_box_acc'] is None
    with pytest.raises(TypeError, match='images must be the folder of the annotations'):
        mmattn.localize(small(), [images], boxes)


def test_networks_bring_their_preprocessing():
    class Framework(nn.Module):  # as mmpretrain's ImageClassifier
        def __init__(self, **prep):
            super().__init__()
            self.data_preprocessor, self.net = nn.Module(), gap_net(4)
            for name, value in prep.items():
                setattr(self.data_preprocessor, name, value)

        def forward(self, x, mode):
            assert mode == 'tensor'
            return self.net(x)

    mean = torch.tensor([1.0, 2, 3]).view(3, 1, 1)
    found = as_classifier(Framework(mean=mean, std=2 * mean, to_rgb=False))
    assert found.preprocess == Preprocess(mean=(1, 2, 3), std=(2, 4, 6), channels='bgr')
    assert found(torch.zeros(1, 3, 8, 8)).shape == (1, 4)
    one = dict(mean=torch.tensor([5.0]), std=torch.tensor([2.0]))
    assert as_classifier(Framework(**one, to_rgb=True)).preprocess.mean == (5, 5, 5)
    plain = as_classifier(Framework(to_rgb=True)).preprocess
    assert plain == Preprocess(mean=(0, 0, 0), std=(1, 1, 1))
    net = gap_net(4)
    assert as_classifier(net).preprocess == Preprocess()
    net.pretrained_cfg = dict(input_size=(3, 64, 48), mean=(0.5,) * 3, std=(0.25,) * 3)
    assert as_classifier(net).preprocess == Preprocess(
        input_size=(64, 48), mean=(127.5,) * 3, std=(63.75,) * 3
    )


def test_nan_weights_are_named():
    classifier = small()
    classifier.model[0].bias.data[0] = float('nan')
    with pytest.raises(ValueError, match='weights hold NaN or infinity, first in 0.bias'):
        as_classifier(classifier)
