"""Faster R-CNN with TDResNet-18: the digit scenes, and eight images of COCO, overfitted."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get('MMATTN_SHARED_DATA', ROOT.parent / 'shared' / 'data'))
CONFIG = ROOT / 'configs/tdam/faster-rcnn_r18-td-joint-t2m2_fpn_350i_digits.py'

pytestmark = pytest.mark.slow


def train(cfg, work_dir, steps):
    """Train in this process; returns the last value of every scalar and the first loss."""
    cfg.work_dir = str(work_dir)
    cfg.train_cfg.update(max_iters=steps, val_interval=steps)
    cfg.param_scheduler[0].end = cfg.param_scheduler[1].begin = 10
    cfg.param_scheduler[1].end = steps
    cfg.default_hooks.logger.interval = 5
    cfg.default_hooks.checkpoint = None
    cfg.experiment_name = f'{Path(work_dir).name}_{torch.seed()}'
    runner = Runner.from_cfg(cfg)
    before = {
        name: p.detach().clone()
        for name, p in runner.model.named_parameters()
        if 'searchlight' in name
    }
    runner.train()
    after = dict(runner.model.named_parameters())
    assert len(before) == 4 * 3  # four blocks, three layers
    for name, value in before.items():
        assert not torch.equal(value, after[name].detach()), name
    losses = [float(v) for v in runner.message_hub.get_scalar('train/loss').data[0]]
    hub = runner.message_hub
    return losses, hub.get_scalar('val/coco/bbox_mAP_50').current()


def test_digit_scenes(tmp_path):
    tool = ROOT / 'tools/dataset_converters/make_digits.py'
    words = [sys.executable, str(tool), str(tmp_path / 'digits'), '--train', '64', '--val', '16']
    subprocess.run(words, check=True, capture_output=True, cwd=ROOT)
    cfg = Config.fromfile(CONFIG)
    for part in ('train', 'val', 'test'):
        cfg[f'{part}_dataloader'].dataset.data_root = f'{tmp_path}/digits/'
    for part in ('val', 'test'):
        file = f'{tmp_path}/digits/annotations/instances_val.json'
        cfg[f'{part}_evaluator'].ann_file = file
    losses, ap50 = train(cfg, tmp_path / 'run', 120)
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])
    assert ap50 > 0.05  # 64 scenes and 120 steps are no training; zero would be a dead network


@pytest.mark.skipif(
    not (DATA / 'coco_mini').is_dir(),
    reason=f'needs coco_mini in {DATA} (set MMATTN_SHARED_DATA)',
)
def test_eight_images_of_coco(tmp_path):
    full = json.loads((DATA / 'coco_mini/annotations/instances_train2017.json').read_text())
    boxes = {}
    for box in full['annotations']:
        boxes.setdefault(box['image_id'], []).append(box)
    images = [
        image
        for image in full['images']
        # a network from scratch overfits large things, not specks
        if image['id'] in boxes
        and all(min(box['bbox'][2:]) > 0.08 * image['width'] for box in boxes[image['id']])
    ][:8]
    chosen = {image['id'] for image in images}
    full.update(
        images=images,
        annotations=[box for box in full['annotations'] if box['image_id'] in chosen],
    )
    file = tmp_path / 'eight.json'
    file.write_text(json.dumps(full))

    cfg = Config.fromfile(CONFIG)
    cfg.model.roi_head.bbox_head.num_classes = 80
    cfg.model.rpn_head.anchor_generator.scales = [6]
    cfg.train_dataloader.batch_size = 4
    for part in ('train', 'val', 'test'):
        loader = cfg[f'{part}_dataloader']
        for step in loader.dataset.pipeline:
            if step.type == 'Resize':
                step.scale = (192, 192)
        loader.dataset.update(
            metainfo=None,
            data_root='',
            ann_file=str(file),
            data_prefix=dict(img=f'{DATA}/coco_mini/train2017/'),
        )
    for part in ('val', 'test'):
        cfg[f'{part}_evaluator'].ann_file = str(file)
    losses, ap50 = train(cfg, tmp_path / 'run', 160)
    assert sum(losses[-5:]) < 0.4 * sum(losses[:5])
    assert ap50 >= 0.7
