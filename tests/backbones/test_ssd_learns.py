"""SSD300 with attention overfits eight real images (VOC mAP, COCO AP50)."""

import json
import os
from pathlib import Path

import pytest
import torch
from mmdet.models.backbones import SSDVGG
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.runner import Runner
from torch import nn

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get('MMATTN_SHARED_DATA', ROOT.parent / 'shared' / 'data'))
IMAGES = 8
SHRINK = 8  # a CPU cannot train the whole VGG16 in minutes
STEPS = 150

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (DATA / 'voc_mini').is_dir() or not (DATA / 'coco_mini').is_dir(),
        reason=f'needs voc_mini and coco_mini in {DATA} (set MMATTN_SHARED_DATA)',
    ),
]


class ThinSSDVGG(SSDVGG):
    """SSDVGG with an eighth of the channels, and a norm inside each place of a convolution."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        for i, layer in enumerate(self.features):
            if isinstance(layer, nn.Conv2d):
                first = layer.in_channels == 3
                conv = nn.Conv2d(
                    3 if first else layer.in_channels // SHRINK,
                    layer.out_channels // SHRINK,
                    layer.kernel_size,
                    padding=layer.padding,
                    dilation=layer.dilation,
                    bias=False,
                )
                self.features[i] = nn.Sequential(conv, nn.BatchNorm2d(conv.out_channels))


@pytest.fixture
def thin_vgg():
    MODELS.register_module(name='ThinSSDVGG', module=ThinSSDVGG)
    yield
    MODELS.module_dict.pop('ThinSSDVGG')


def thin(cfg):
    """The config's network with an eighth of the channels everywhere."""
    kind = 'wrapped' if cfg.model.backbone.type == 'mmattn.Attend' else 'type'
    cfg.model.backbone[kind] = 'ThinSSDVGG'
    cfg.model.backbone.init_cfg = None
    widths = tuple(c // SHRINK for c in cfg.model.bbox_head.in_channels)
    cfg.model.bbox_head.in_channels = widths
    cfg.model.neck.update(in_channels=widths[:2], out_channels=widths)
    cfg.model.neck.update(norm_cfg=dict(type='BN'), l2_norm_scale=20.0)


def pipeline(training):
    """300 x 300 without chance: the images are the same in every step.

    In a test the boxes come after the resize: the metric compares in the image's own pixels.
    """
    boxes = dict(type='LoadAnnotations', with_bbox=True)
    resize = dict(type='Resize', scale=(300, 300), keep_ratio=False)
    return [
        dict(type='LoadImageFromFile'),
        *([boxes, resize] if training else [resize, boxes]),
        dict(
            type='PackDetInputs',
            meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
        ),
    ]


def voc():
    return dict(
        type='VOCDataset',
        data_root=f'{DATA}/voc_mini/',
        ann_file='VOC2007/ImageSets/Main/trainval.txt',
        data_prefix=dict(sub_data_root='VOC2007/'),
        indices=IMAGES,
    ), dict(type='VOCMetric', metric='mAP', eval_mode='area')


def coco(tmp_path):
    """The metric counts every image of its file, so the file holds the eight only."""
    full = json.loads((DATA / 'coco_mini/annotations/instances_train2017.json').read_text())
    known = {box['image_id'] for box in full['annotations']}
    full['images'] = [image for image in full['images'] if image['id'] in known][:IMAGES]
    chosen = {image['id'] for image in full['images']}
    full['annotations'] = [box for box in full['annotations'] if box['image_id'] in chosen]
    ann_file = tmp_path / 'eight.json'
    ann_file.write_text(json.dumps(full))
    return dict(
        type='CocoDataset',
        ann_file=str(ann_file),
        data_prefix=dict(img=f'{DATA}/coco_mini/train2017/'),
    ), dict(type='CocoMetric', ann_file=str(ann_file), metric='bbox')


def learn(name, dataset, metric, work_dir):
    """Train on the eight images and evaluate on them."""
    cfg = Config.fromfile(ROOT / f'configs/ssd/{name}.py')
    thin(cfg)

    def loader(training):
        sampler = 'InfiniteSampler' if training else 'DefaultSampler'
        return dict(
            batch_size=IMAGES,
            num_workers=0,
            persistent_workers=False,
            sampler=dict(type=sampler, shuffle=training),
            dataset=dict(dataset, pipeline=pipeline(training)),
        )

    runner = Runner(
        cfg.model,
        work_dir=str(work_dir),
        train_dataloader=loader(True),
        val_dataloader=loader(False),
        val_evaluator=metric,
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=STEPS, val_interval=STEPS),
        val_cfg=dict(type='ValLoop'),
        optim_wrapper=dict(
            optimizer=dict(type='AdamW', lr=2e-3, weight_decay=0.0),
            clip_grad=dict(max_norm=10, norm_type=2),
        ),
        param_scheduler=[
            dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=20),
            dict(type='CosineAnnealingLR', by_epoch=False, begin=20, end=STEPS, T_max=STEPS - 20),
        ],
        default_hooks=dict(checkpoint=None, logger=dict(type='LoggerHook', interval=20)),
        default_scope='mmdet',
        randomness=dict(seed=0),
        experiment_name=f'{name}_{torch.seed()}',
    )
    runner.train()
    return runner.message_hub


@pytest.mark.parametrize(
    'name', ['ssd300_aw-extra-pred_voc0712', 'ssd300_se-vgg_voc0712'], ids=['aw', 'se']
)
def test_voc(name, thin_vgg, tmp_path):
    dataset, metric = voc()
    hub = learn(name, dataset, metric, tmp_path)
    assert hub.get_scalar('val/pascal_voc/mAP').current() >= 0.8


@pytest.mark.parametrize(
    'name', ['ssd300_aw-extra-pred_coco', 'ssd300_cbam-vgg_coco'], ids=['aw', 'cbam']
)
def test_coco(name, thin_vgg, tmp_path):
    dataset, metric = coco(tmp_path)
    hub = learn(name, dataset, metric, tmp_path)
    assert hub.get_scalar('val/coco/bbox_mAP_50').current() >= 0.8
