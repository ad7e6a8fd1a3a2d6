"""Every method by one line in three stock detectors: a step of training, a prediction.

The line is that of docs/backbones.md, the methods those of the README's table, the images real
ones: ../shared/data, or the folder that MMATTN_SHARED_DATA names, with coco_mini.
"""

import os
import re
from pathlib import Path

import pytest
import torch

pytest.importorskip('mmdet')

from mmdet.registry import DATASETS, MODELS
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.hub import get_config

import mmattn
from mmattn.analysis.method_table import read_methods

ROOT = Path(__file__).parent.parent
DATA = Path(os.environ.get('MMATTN_SHARED_DATA', ROOT.parent / 'shared' / 'data')) / 'coco_mini'
PAGE = (ROOT / 'docs' / 'backbones.md').read_text()
HOSTS = {  # config and (width, height) of the images
    'Faster R-CNN': ('faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py', (128, 96)),
    'RetinaNet': ('retinanet/retinanet_r50_fpn_1x_coco.py', (128, 96)),
    'SSD300': ('ssd/ssd300_coco.py', (300, 300)),
}
NOT_IN_DETECTORS = {'LearnToPayHead'}  # a classifier's; its method is here as LearnToPayGate
METHODS = {
    f'{method.name} {method.place}': method
    for method in read_methods()
    if method.name not in NOT_IN_DETECTORS
}
QUICK = {('SE every block', 'Faster R-CNN'), ('AWFPN neck', 'RetinaNet')}


def cases():
    for name in METHODS:
        for host in HOSTS:
            marks = () if (name, host) in QUICK else pytest.mark.slow
            yield pytest.param(name, host, marks=marks, id=f'{name}-{host}')


LINE = re.search(r"^cfg = (mmattn\.add_attention\('([^']+)', '([^']+)'\))$", PAGE, re.MULTILINE)


def line_for(method) -> str:
    """The page's line with a config at hand and this method, as its own config has it."""
    options = options_of(Config.fromfile(ROOT / f'configs/{method.config}.py').model, method.name)
    method_cfg = dict(
        type=method.name, **(options if method.slot.startswith(('gate', 'conv')) else {})
    )
    return LINE[1].replace(f"'{LINE[2]}'", 'cfg').replace(f"'{LINE[3]}'", repr(method_cfg))


def options_of(cfg, name: str) -> dict:
    """What the config of the method gives to it beside ``init``."""
    if isinstance(cfg, dict):
        if cfg.get('type') == f'mmattn.{name}':
            return {k: v for k, v in cfg.to_dict().items() if k not in ('type', 'init')}
        cfg = list(cfg.values())
    found = [options_of(value, name) for value in cfg] if isinstance(cfg, list) else []
    return next((options for options in found if options is not None), None)


def images(size) -> dict:
    """Two real images with their boxes, as a data loader gives them."""
    dataset = DATASETS.build(
        dict(
            type='CocoDataset',
            data_root=f'{DATA}/',
            ann_file='annotations/instances_train2017.json',
            data_prefix=dict(img='train2017/'),
            filter_cfg=dict(filter_empty_gt=True),
            indices=2,
            pipeline=[
                dict(type='LoadImageFromFile'),
                dict(type='LoadAnnotations', with_bbox=True),
                dict(type='Resize', scale=size, keep_ratio=False),
                dict(type='PackDetInputs'),
            ],
        )
    )
    return pseudo_collate([dataset[i] for i in range(2)])


def build(line: str, host: str):
    """What the page says to type."""
    register_all_modules()
    cfg = get_config(f'mmdet::{HOSTS[host][0]}')
    cfg.model.backbone.init_cfg = None
    if 'frozen_stages' in cfg.model.backbone:
        cfg.model.backbone.frozen_stages = -1
    test_cfg = cfg.model.test_cfg
    test_cfg.get('rcnn', test_cfg).score_thr = 0.0  # an untrained network is sure of nothing
    cfg = eval(line, dict(mmattn=mmattn, cfg=cfg))
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()  # as a runner does; SSD's L2Norm holds whatever the memory held before
    return model


@pytest.mark.skipif(not DATA.is_dir(), reason=f'{DATA} is not there (set MMATTN_SHARED_DATA)')
@pytest.mark.parametrize('name, host', cases())
def test_trains_and_predicts(name, host):
    method = METHODS[name]
    if (method.name, host) == ('TDResNet', 'SSD300'):
        with pytest.raises(ValueError, match='TDResNet cannot stand .* SSDVGG'):
            build(line_for(method), host)
        return
    model = build(line_for(method), host)
    batch = images(HOSTS[host][1])
    model.train()
    losses = model(**model.data_preprocessor(batch, True), mode='loss')
    total, _ = model.parse_losses(losses)
    assert total.isfinite()
    total.backward()
    parts = inserted(model, method)
    assert parts
    weights = [p for part in parts for p in part.parameters() if p.requires_grad]
    assert len(weights) > 0 or method.name == 'SimAM'
    assert all(p.grad is not None and p.grad.isfinite().all() for p in weights)
    model.eval()
    for sample in model.test_step(batch):
        found = sample.pred_instances
        assert len(found) > 0
        assert found.scores.isfinite().all()
        height, width = sample.ori_shape
        bounds = torch.tensor([width, height, width, height]) + 1e-3
        assert ((found.bboxes >= 0) & (found.bboxes <= bounds)).all()


def inserted(model, method) -> list:
    """The modules of the method in the network."""
    kinds = {'AWFPN': 'AWConv2d', 'TDResNet': 'Searchlight', 'SSIA': 'SSIABlock'}
    kind = kinds.get(method.name, method.name)
    return [module for module in model.modules() if type(module).__name__ == kind]


def test_the_page_shows_the_line():
    assert LINE is not None
    assert LINE[2] == f'mmdet::{HOSTS["RetinaNet"][0]}'
    assert LINE[3] in {method.name for method in METHODS.values()}
