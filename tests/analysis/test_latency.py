"""Networks timed interleaved, and the tool around it."""

import pytest
import torch
from torch import nn

from mmattn.analysis.latency import build_model, features, measure_latency
from tests.commands import printed_by, run_command


class Counting(nn.Module):
    """A network that does its work so many times."""

    def __init__(self, times):
        super().__init__()
        self.times = times
        self.conv = nn.Conv2d(3, 16, 3, padding=1)

    def forward(self, x):
        return [self.conv(x) for _ in range(self.times)]


def test_ratios_are_to_the_first():
    found = measure_latency(
        dict(once=Counting(1), five=Counting(5)), torch.randn(2, 3, 64, 64), repeats=5
    )
    assert found['once'].ratio == found['once'].memory == 1
    assert found['five'].ratio > 2
    assert found['five'].memory > 2
    assert all(one.ms > 0 for one in found.values())


class Parts(nn.Module):
    def extract_feat(self, x):
        return 'backbone and neck'

    def forward(self, x):
        return 'all'


def test_what_is_timed():
    net = Parts()
    assert features(net, None) == 'backbone and neck'
    net.head = nn.Identity()  # of a classifier
    assert features(net, None) == 'all'
    assert features(nn.Identity(), 1) == 1


CONFIG = """
model = dict(
    type='mmdet.SingleStageDetector',
    backbone=dict(type='mmattn.AttentionResNet', depth=18, base_channels=8, stem_channels=8,
                  init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet18')),
    bbox_head=dict(type='mmdet.RetinaHead', num_classes=2, in_channels=8, feat_channels=8),
    test_cfg=dict(), train_cfg=dict(),
)
"""


def test_the_tool(tmp_path):
    pytest.importorskip('mmdet')
    (tmp_path / 'plain.py').write_text(CONFIG)
    (tmp_path / 'aw.py').write_text(
        CONFIG.replace('depth=18', "depth=18, conv2=dict(type='mmattn.AWConv2d', reduction=4)")
    )
    words = ['--shape', 64, 64, '--repeats', 1, '--device', 'cpu', '--fuse']
    printed = printed_by(
        'latency.py', tmp_path / 'aw.py', '--against', tmp_path / 'plain.py', *words
    )
    first, header, *rows = printed.splitlines()[-6:]
    assert first.startswith('1 x 3 x 64 x 64, cpu, ')
    assert header.split() == ['network', 'ms', 'ratio', 'memory']
    names = [' '.join(row.split()[:-3]) for row in rows]
    assert names == ['plain', 'plain, fused', 'aw', 'aw, fused']
    assert rows[0].split()[-2:] == ['1.00', '1.00']
    assert not build_model(tmp_path / 'plain.py').training


def test_mistakes(tmp_path, capsys):
    assert run_command('latency.py', tmp_path / 'no.py') == 1
    assert 'no.py does not exist' in capsys.readouterr().err
    assert run_command('latency.py', 'x.py', '--repeats', '0') == 2
    assert '--repeats must be 1 or more, got 0' in capsys.readouterr().err
    for device, why in (
        ('gpu', "'gpu' is not known to torch"),
        ('cuda:99', 'cuda:99 is not there'),
    ):
        assert run_command('latency.py', 'x.py', '--device', device) == 1
        said = capsys.readouterr().err
        assert f'latency: device: {why}' in said
        assert 'Traceback' not in said


def test_memory_of_a_cpu_is_measured_beside_a_gpu_too(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'synchronize', lambda: None)
    monkeypatch.setattr(torch.cuda, 'memory_allocated', lambda: 0)
    monkeypatch.setattr(torch.cuda, 'reset_peak_memory_stats', lambda: None)
    monkeypatch.setattr(torch.cuda, 'max_memory_allocated', lambda: 0)
    found = measure_latency(
        dict(once=Counting(1), five=Counting(5)), torch.randn(2, 3, 64, 64), repeats=1
    )
    assert found['five'].memory > 2
