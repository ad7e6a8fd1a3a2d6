"""Attention between positions on the largest level of a detector that sees 1333 x 800 pixels."""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from mmattn.layers import DualAttention, NonLocal, PositionAttention

HEIGHT, WIDTH = 100, 167  # P3
MATRIX = 4 * (HEIGHT * WIDTH) ** 2  # bytes of all pairs, 1.1 GB


@pytest.mark.slow
@pytest.mark.parametrize('cls', [NonLocal, PositionAttention, DualAttention])
def test_a_detector_level_fits(cls):
    if cls is NonLocal:
        pytest.importorskip('mmcv')
    gate = cls(16)
    x = torch.randn(1, 16, HEIGHT, WIDTH, requires_grad=True)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        gate(x).square().mean().backward()
    alive = peak = 0
    for event in record.profiler.kineto_results.events():
        if event.name() == '[memory]':
            alive += event.nbytes()
            peak = max(peak, alive)
    assert 0 < peak < MATRIX / 3
    assert torch.isfinite(x.grad).all()
