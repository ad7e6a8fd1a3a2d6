"""tools/analysis_tools/eval_resolutions.py on a few images."""

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip('mmpretrain')

from mmattn.analysis import resolutions
from mmattn.backbones import TDResNet
from tests.commands import run_command

TOOL = 'analysis_tools/eval_resolutions.py'
CROP = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeEdge', scale=256, edge='short'),
    dict(type='mmpretrain.CenterCrop', crop_size=224),
    dict(type='PackInputs'),
]


@pytest.mark.parametrize(
    'pipeline, size, expected',
    [
        pytest.param(CROP, 112, [128, 112], id='crop'),
        pytest.param(CROP, 224, [256, 224], id='as-it-is'),
        pytest.param(CROP, 288, [329, 288], id='larger'),
        pytest.param([dict(type='Resize', scale=(64, 64))], 32, [(32, 32)], id='resize'),
        pytest.param([dict(type='Resize', scale=(128, 64))], 32, [(64, 32)], id='not-square'),
    ],
)
def test_sizes_in_a_pipeline(pipeline, size, expected):
    steps = resolutions.resized_pipeline(pipeline, size)
    found = [step.get('scale', step.get('crop_size')) for step in steps]
    assert [value for value in found if value is not None] == expected
    assert pipeline[0]['type'] in ('LoadImageFromFile', 'Resize')
    assert CROP[1]['scale'] == 256  # the given one is unchanged


def test_a_pipeline_without_a_size():
    with pytest.raises(ValueError, match='must have a Resize, ResizeEdge, CenterCrop, got Load'):
        resolutions.resized_pipeline([dict(type='Load')], 32)


def test_summary_by_hand():
    results = {96: {'top1': 40.0}, 128: {'top1': 60.0}, 160: {'top1': 55.0}}
    summary = resolutions.summarise(results, 'top1')
    assert summary['best'] == dict(size=128, value=60.0, below_best=0.0)
    assert summary['lowest_size'] == dict(size=96, value=40.0, below_best=20.0)
    assert summary['highest_size'] == dict(size=160, value=55.0, below_best=5.0)
    with pytest.raises(ValueError, match="metric must be one of top1, got 'top5'"):
        resolutions.choose_metric(results, 'top5')


@pytest.fixture
def run(tmp_path):
    rng = np.random.default_rng(0)
    for name in ('one', 'two'):
        (tmp_path / 'data' / name).mkdir(parents=True)
        for index in range(2):
            image = Image.fromarray(rng.integers(0, 255, (40, 50, 3), np.uint8))
            image.save(tmp_path / 'data' / name / f'{index}.png')
    config = f"""
default_scope = 'mmpretrain'
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='mmattn.TDResNet', depth=18, base_channels=8, reduction=4, out_indices=(3,)
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=2, in_channels=64),
)
data_preprocessor = dict(num_classes=2, mean=[127.5] * 3, std=[64.0] * 3)
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(64, 64)),
    dict(type='PackInputs'),
]
test_dataloader = dict(
    batch_size=2,
    num_workers=0,
    dataset=dict(type='CustomDataset', data_root='{tmp_path}/data', pipeline=pipeline),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
test_evaluator = dict(type='Accuracy', topk=(1,))
test_cfg = dict()
"""
    (tmp_path / 'tiny.py').write_text(config)
    net = TDResNet(18, base_channels=8, reduction=4)
    state = {f'backbone.{key}': value for key, value in net.state_dict().items()}
    torch.save({'state_dict': state}, tmp_path / 'headless.pth')
    state |= {'head.fc.weight': torch.randn(2, 64), 'head.fc.bias': torch.zeros(2)}
    torch.save({'state_dict': state}, tmp_path / 'tiny.pth')
    (tmp_path / 'damaged.pth').write_text('text')
    return tmp_path


def test_a_run_and_a_comparison(run, capsys):
    base = [str(run / 'tiny.py'), str(run / 'tiny.pth'), '--sizes', '64', '32']
    assert run_command(TOOL, *base, '--out', run / 'a', '--name', 'first') == 0
    values = json.loads((run / 'a.json').read_text())
    assert list(values['results']) == ['32', '64'] and values['metric'] == 'accuracy/top1'
    assert 'best' in capsys.readouterr().out
    assert Image.open(run / 'a.png').width > 300
    again = [*base, '--out', str(run / 'b'), '--compare', str(run / 'a.json')]
    assert run_command(TOOL, *again) == 0
    assert json.loads((run / 'b.json').read_text())['name'] == 'tiny'


@pytest.mark.parametrize(
    'arguments, text',
    [
        (['none.py', 'tiny.pth'], 'config .*none.py does not exist'),
        (['tiny.py', 'none.pth'], 'checkpoint .*none.pth does not exist'),
        (['tiny.py', 'headless.pth', '--sizes', '64'], 'does not fit .*head.fc.weight'),
        (['tiny.py', 'damaged.pth', '--sizes', '64'], 'is no checkpoint'),
        (['tiny.py', 'tiny.pth', '--out', 'tiny.py/x'], 'Not a directory: .*tiny.py'),
        (['tiny.py', 'tiny.pth', '--sizes', '0'], 'sizes must be 1 or more, got 0'),
        (['tiny.py', 'tiny.pth', '--compare', 'tiny.py'], 'is no result of this tool'),
    ],
)
def test_errors(run, arguments, text, capsys, monkeypatch):
    monkeypatch.chdir(run)
    assert run_command(TOOL, *arguments) == 2
    assert re.search(text, capsys.readouterr().err)
