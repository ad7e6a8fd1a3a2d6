"""A tiny set of scenes, a tiny detector, and the tools as modules."""

import importlib.util
import itertools
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / 'tools'
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


def load_tool(name):
    """Import a file below tools/ as a module."""
    spec = importlib.util.spec_from_file_location(f'tool_{Path(name).stem}', TOOLS / name)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


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


def load_runner_tool(name):
    """Load train.py or test.py; each call of ``main`` gets a visualizer of its own.

    A process normally runs one tool once; the host keeps one visualizer for good, which would
    write the curves of every later run into the folder of the first.
    """
    pytest.importorskip('mmdet')
    from mmdet.visualization import DetLocalVisualizer

    tool = load_tool(name)
    main = tool.main

    def main_in_a_fresh_process(argv):
        DetLocalVisualizer._instance_dict.clear()
        return main(argv)

    tool.main = main_in_a_fresh_process
    return tool


@pytest.fixture(scope='session')
def train_tool():
    return load_runner_tool('train.py')


@pytest.fixture(scope='session')
def test_tool():
    return load_runner_tool('test.py')


@pytest.fixture(scope='session')
def trained(train_tool, digits, tmp_path_factory):
    """Config and work dir of a finished training of four steps; read only."""
    pytest.importorskip('mmdet')
    folder = tmp_path_factory.mktemp('trained')
    config = write_config(folder, digits)
    assert train_tool.main([str(config), '--work-dir', str(folder / 'run')]) == 0
    return config, folder / 'run'
