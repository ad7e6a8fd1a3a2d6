"""Stock configs with narrow networks, and images for them."""

import copy

import torch
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.registry import MODELS, DefaultScope

NARROW = {
    'faster_rcnn': dict(
        cfg='mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
        model=dict(
            backbone=dict(base_channels=16, init_cfg=None),
            neck=dict(in_channels=[64, 128, 256, 512], out_channels=32),
            rpn_head=dict(in_channels=32, feat_channels=32),
            roi_head=dict(
                bbox_roi_extractor=dict(out_channels=32),
                bbox_head=dict(in_channels=32, fc_out_channels=32),
            ),
        ),
        size=(64, 96),
    ),
    'retinanet': dict(
        cfg='mmdet::retinanet/retinanet_r50_fpn_1x_coco.py',
        model=dict(
            backbone=dict(base_channels=16, init_cfg=None),
            neck=dict(in_channels=[64, 128, 256, 512], out_channels=32),
            bbox_head=dict(in_channels=32, feat_channels=32, stacked_convs=1),
        ),
        size=(64, 96),
    ),
    'yolox': dict(
        cfg='mmdet::yolox/yolox_tiny_8xb8-300e_coco.py',
        model=dict(
            backbone=dict(widen_factor=0.25),
            neck=dict(in_channels=[64, 128, 256], out_channels=32),
            bbox_head=dict(in_channels=32, feat_channels=32),
        ),
        size=(64, 96),
    ),
    'resnet': dict(
        cfg='mmpretrain::resnet/resnet50_8xb32_in1k.py',
        model=dict(
            backbone=dict(base_channels=16, stem_channels=16),
            head=dict(in_channels=512, num_classes=7),
        ),
        size=(64, 64),
    ),
    'convnext': dict(
        cfg='mmpretrain::convnext/convnext-tiny_32xb128_in1k.py',
        model=dict(
            backbone=dict(
                arch=dict(_delete_=True, depths=[1, 1, 2, 1], channels=[16, 32, 48, 64]),
                drop_path_rate=0.0,
            ),
            head=dict(in_channels=64, num_classes=7),
        ),
        size=(64, 64),
    ),
}
DETECTORS = ('faster_rcnn', 'retinanet', 'yolox')
CLASSIFIERS = ('resnet', 'convnext')


def narrow(name: str) -> Config:
    """The stock config of a name with a narrow network and no weights to fetch."""
    row = NARROW[name]
    cfg = get_config(row['cfg'])
    cfg.merge_from_dict(dict(model=copy.deepcopy(row['model'])))  # it pops _delete_
    return cfg


def build(cfg: Config, seed: int = 0):
    """The model of a config with initial values, in eval mode."""
    torch.manual_seed(seed)
    model_cfg = cfg.model.copy()
    if 'data_preprocessor' in cfg and 'data_preprocessor' not in model_cfg:
        model_cfg['data_preprocessor'] = cfg.data_preprocessor
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmdet')):
        model = MODELS.build(model_cfg)
    model.init_weights()
    model.eval()
    return model


def outputs(model, name: str) -> list:
    """What a model gives for two drawn images, as a list of tensors."""
    torch.manual_seed(1)
    images = torch.rand(2, 3, *NARROW[name]['size'])
    with torch.no_grad():
        if name in CLASSIFIERS:
            return [model(images)]
        feats = model.extract_feat(images)
        outs = list(feats)
        if hasattr(model, 'bbox_head'):
            outs += [x for maps in model.bbox_head(feats) for x in maps if x is not None]
        else:
            outs += [x for maps in model.rpn_head(feats) for x in maps]
        return outs
