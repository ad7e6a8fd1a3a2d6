"""A tiny set of scenes, a tiny detector, and the tools that train and test it."""

import itertools
import sys
from functools import partial
from pathlib import Path

import pytest

from tests.commands import ROOT, run_command

COUNT = itertools.count()

TINY = """
_base_ = '{base}'
channels = 16
model = dict(
    backbone=dict(base_channels=8),
    neck=dict(in_channels=[8, 16, 32, 64], out_channels=channels),
    rpn_head=dict(in_channels=channels, feat_channels=channels),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=channels),
        bbox_head=dict(in_channels=channels, fc_out_channels=16),
    ),
)
meta_keys = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(64, 64), keep_ratio=True),
    dict(type='PackDetInputs', meta_keys=meta_keys),
]
train_dataloader = dict(batch_size=2, dataset=dict(data_root='{data}', pipeline=pipeline))
val_dataloader = dict(batch_size=2, dataset=dict(data_root='{data}', pipeline=pipeline))
test_dataloader = dict(batch_size=2, dataset=dict(data_root='{data}', pipeline=pipeline))
val_evaluator = dict(ann_file='{data}/annotations/instances_val.json')
test_evaluator = dict(ann_file='{data}/annotations/instances_val.json')
train_cfg = dict(max_iters=4, val_interval=4)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=2))
"""


@pytest.fixture(scope='session', autouse=True)
def _no_compiler_versions():
    """Leave out what mmengine asks compilers and drivers at every start: seconds each time."""
    patch = pytest.MonkeyPatch()
    patch.setattr('mmengine.runner.runner.collect_env', lambda: {'sys.platform': sys.platform})
    yield
    patch.undo()


@pytest.fixture(scope='session')
def make_digits():
    pytest.importorskip('sklearn', reason='the digit scenes need scikit-learn')
    from mmattn.data.digits import make_digits

    return make_digits


@pytest.fixture(scope='session')
def digits(make_digits, tmp_path_factory):
    """Eight training and four validation scenes of 64 pixels; read only."""
    out = tmp_path_factory.mktemp('data') / 'digits'
    make_digits(out, train=8, val=4, size=64, digits=3)
    return out


def write_config(folder, data, base='faster-rcnn_r18_aw-fpn_350i_digits.py', extra=''):
    """Write a config of a tiny detector on these scenes."""
    path = Path(folder) / f'tiny_{next(COUNT)}.py'
    text = TINY.format(base=ROOT / 'configs' / 'demo' / base, data=data)
    path.write_text(text + extra)
    return path


@pytest.fixture
def tiny_config(tmp_path, digits):
    pytest.importorskip('mmdet')
    return write_config(tmp_path, digits)


def run_detector_tool(name, arguments):
    """Run train.py or test.py as in a process of its own: with a visualizer of its own.

    mmdet keeps one visualizer for good, which would write the curves of every later run into the
    folder of the first.
    """
    from mmdet.visualization import DetLocalVisualizer

    DetLocalVisualizer._instance_dict.clear()
    return run_command(name, *arguments)


@pytest.fixture(scope='session')
def train():
    pytest.importorskip('mmdet')
    return partial(run_detector_tool, 'train.py')


@pytest.fixture(scope='session')
def run_test():
    pytest.importorskip('mmdet')
    return partial(run_detector_tool, 'test.py')


@pytest.fixture(scope='session')
def trained(train, digits, tmp_path_factory):
    """Config and work dir of a finished training of four steps; read only."""
    pytest.importorskip('mmdet')
    folder = tmp_path_factory.mktemp('trained')
    config = write_config(folder, digits)
    assert train([str(config), '--work-dir', str(folder / 'run')]) == 0
    return config, folder / 'run'
