"""Score maps of detections, beside pytorch-grad-cam's and worked out by hand."""

import numpy as np
import pytest
import torch
from torch import nn

from mmattn.analysis.det_cam import Asked, choose_detections, detect, explain_detections

mmdet = pytest.importorskip('mmdet')

SIZE = (96, 64)
CLASSES = [f'class {i}' for i in range(5)]


@pytest.fixture(scope='module')
def model():
    from mmdet.utils import register_all_modules
    from mmengine.config import Config
    from mmengine.registry import MODELS

    register_all_modules()
    cfg = Config.fromfile('configs/demo/faster-rcnn_r18_fpn_350i_digits.py')
    narrow = dict(in_channels=16)
    head = dict(narrow, fc_out_channels=16, num_classes=len(CLASSES))
    cfg.merge_from_dict(
        dict(
            model=dict(
                backbone=dict(base_channels=8),
                neck=dict(in_channels=[8, 16, 32, 64], out_channels=16),
                rpn_head=dict(narrow, feat_channels=16),
                roi_head=dict(bbox_roi_extractor=dict(out_channels=16), bbox_head=head),
            )
        )
    )
    torch.manual_seed(0)
    model = MODELS.build(cfg.model).eval()
    nn.init.normal_(model.roi_head.bbox_head.fc_cls.weight, std=1.0)
    return model


@pytest.fixture(scope='module')
def data():
    from mmdet.structures import DetDataSample

    x = torch.randn(1, 3, *SIZE, generator=torch.Generator().manual_seed(1))
    sizes = dict.fromkeys(('img_shape', 'ori_shape', 'batch_input_shape', 'pad_shape'), SIZE)
    sample = DetDataSample(metainfo=dict(sizes, scale_factor=(1.0, 1.0), img_id=0))
    return dict(inputs=x, data_samples=[sample])


class Scores(nn.Module):
    """The detector as pytorch-grad-cam wants it: an image in, one score for each box out."""

    def __init__(self, model, data):
        super().__init__()
        self.model, self.data = model, data

    def forward(self, x):
        return detect(self.model, dict(self.data, inputs=x))['scores'][None]


@pytest.mark.parametrize('layer', ['backbone.layer4', 'backbone.layer2'])
@pytest.mark.parametrize('method, theirs', [('gradcam', 'GradCAM'), ('layercam', 'LayerCAM')])
def test_maps_are_those_of_pytorch_grad_cam(model, data, method, theirs, layer):
    package = pytest.importorskip('pytorch_grad_cam', reason='the oracle is grad-cam')
    from pytorch_grad_cam.utils.image import scale_cam_image

    net = Scores(model, data)
    rows = (0, 3)
    ours = explain_detections(model, data, [Asked('', (row,)) for row in rows], method, layer)
    with getattr(package, theirs)(net, [model.get_submodule(layer)]) as cam:
        for row, one in zip(rows, ours):
            (expected,) = cam(data['inputs'], [lambda out, row=row: out[row]])
            # as they do; to a maximum of 1 first, since they divide by the maximum + 1e-7
            resized = scale_cam_image(one.heat[None] / one.heat.max(), SIZE[::-1])
            (found,) = scale_cam_image(resized)
            np.testing.assert_allclose(found / found.max(), expected / expected.max(), atol=1e-5)
            assert expected.std() > 0.01


def test_the_surest_detection_is_the_first(model, data):
    scores = detect(model, data)['scores'].tolist()
    assert len(set(scores)) > 1
    assert scores == sorted(scores, reverse=True)


def test_a_class_is_the_sum_of_its_detections(model, data):
    rows = (0, 2)
    layer = dict(method='hirescam', layer='backbone.layer3')
    one = explain_detections(model, data, [Asked('', rows)], **layer)[0]
    found = detect(model, data)
    np.testing.assert_array_equal(one.boxes_xyxy, found['bboxes'][list(rows)].detach())

    taken = []
    handle = model.backbone.layer3.register_forward_hook(lambda m, i, out: taken.append(out))
    score = detect(model, data)['scores'][list(rows)].sum()
    handle.remove()
    (grad,) = torch.autograd.grad(score, taken)
    expected = (grad * taken[0])[0].sum(0).clamp(min=0).detach()
    torch.testing.assert_close(torch.tensor(one.heat), expected, rtol=1e-4, atol=1e-7)


def test_levels(model, data):
    """A box is read from one level of the pyramid; all of them together show that one."""
    asked = [Asked('', (0,))]
    maps = [explain_detections(model, data, asked, level=i)[0].heat for i in range(4)]
    assert [m.shape for m in maps] == [(24, 16), (12, 8), (6, 4), (3, 2)]
    read = [i for i, m in enumerate(maps) if m.any()]
    assert len(read) == 1
    together = explain_detections(model, data, asked)[0].heat
    assert together.shape == (24, 16)
    assert together.max() == pytest.approx(1)
    by_layer = explain_detections(model, data, asked, layer=f'neck.fpn_convs.{read[0]}.conv')
    np.testing.assert_allclose(by_layer[0].heat, maps[read[0]], rtol=1e-5)


def test_the_detector_stays_as_it_was(model, data):
    before = {name: p.requires_grad for name, p in model.named_parameters()}
    explain_detections(model, data, [Asked('', (0,))])
    assert {name: p.requires_grad for name, p in model.named_parameters()} == before
    assert not any(m._forward_hooks for m in model.modules())


FOUND = dict(
    bboxes=torch.zeros(4, 4),
    scores=torch.tensor([0.9, 0.8, 0.5, 0.2]),
    labels=torch.tensor([1, 2, 1, 1]),
)


@pytest.mark.parametrize(
    'options, expected',
    [
        (dict(), [('class 1 0.90', (0,)), ('class 2 0.80', (1,)), ('class 1 0.50', (2,))]),
        (dict(count=1), [('class 1 0.90', (0,))]),
        (dict(rows=[3]), [('class 1 0.20', (3,))]),
        (dict(label='class 1'), [('class 1, 2 found', (0, 2))]),
        (dict(label='2'), [('class 2, 1 found', (1,))]),
        (dict(label='class 4'), []),
        (dict(score_thr=0.95), []),
    ],
    ids=str,
)
def test_what_is_chosen(options, expected):
    asked = choose_detections(FOUND, CLASSES, **options)
    assert [(one.title, one.rows) for one in asked] == expected


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(count=0), 'count must be 1 or more, got 0'),
        (dict(rows=[4]), 'detection must be from 0 to 3, got 4'),
        (dict(label='clas 1'), "class must be a name or an index below 5, got 'clas 1', did you"),
    ],
    ids=str,
)
def test_what_is_not_there(options, message):
    with pytest.raises(ValueError, match=message):
        choose_detections(FOUND, CLASSES, **options)


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(method='cam'), "method must be one of gradcam, .*, got 'cam'"),
        (dict(layer='backbone.layer5'), "got 'backbone.layer5', did you mean 'backbone.layer"),
        (dict(level=4), 'level must be from 0 to 3 .of the neck., got 4'),
        (dict(layer='backbone', level=1), 'layer or level, not both'),
        (dict(layer='roi_head.bbox_head.fc_cls'), 'layer must give a map'),
        (dict(layer='rpn_head.rpn_cls'), 'do not depend on layer rpn_head.rpn_cls'),
    ],
    ids=str,
)
def test_mistakes(model, data, options, message):
    with pytest.raises(ValueError, match=message):
        explain_detections(model, data, [Asked('', (0,))], **options)


def test_models_without_boxes(data):
    with pytest.raises(ValueError, match='must be a detector of mmdet, got Identity'):
        detect(nn.Identity(), data)
