"""A tiny classifier and its images; a launcher that runs in this process."""

import contextlib

import numpy as np
from PIL import Image

from mmattn.study.runs import execute

CONFIG = """
_base_ = ['mmpretrain::_base_/default_runtime.py']
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='mmpretrain.ResNet_CIFAR', depth=18, stem_channels=4, base_channels=4,
        out_indices=(3,),
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead', num_classes=2, in_channels=32,
        loss=dict(type='CrossEntropyLoss', loss_weight=1.0), topk=(1,),
    ),
)
data_preprocessor = dict(num_classes=2, mean=[127.0] * 3, std=[60.0] * 3)
pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
train_dataloader = dict(
    batch_size=4, num_workers=0, persistent_workers=False,
    dataset=dict(
        type='CustomDataset', data_root='{data}', data_prefix='train', pipeline=pipeline
    ),
    sampler=dict(type='DefaultSampler', shuffle=True),
)
test_dataloader = dict(
    batch_size=8, num_workers=0, persistent_workers=False,
    dataset=dict(type='CustomDataset', data_root='{data}', data_prefix='test', pipeline=pipeline),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
test_evaluator = dict(type='Accuracy', topk=(1,))
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.05))
train_cfg = dict(by_epoch=True, max_epochs=2)
test_cfg = dict()
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(max_keep_ckpts=1))
"""


def make_images(root) -> None:
    """Two classes, dark and bright, eight training and six test images of each."""
    rng = np.random.default_rng(0)
    for split, count in (('train', 8), ('test', 6)):
        for name, level in (('bright', 150), ('dark', 110)):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.normal(level, 50, (16, 16, 3)).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f'{number}.png')


def write_config(folder, data, extra='', name='plain.py'):
    """The config of this classifier."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(CONFIG.replace('{data}', str(data)) + extra)
    return path


class Here:
    """Runs in this process, one after the other."""

    at_a_time = 1

    def __init__(self) -> None:
        self.started = []

    def start(self, runs):
        for run in runs:
            self.started.append((run.label, run.seed))
            with contextlib.suppress(Exception):
                execute(run.folder)
        return list(runs)

    def ended(self, handle):
        return True

    def stop(self, handle):
        pass
