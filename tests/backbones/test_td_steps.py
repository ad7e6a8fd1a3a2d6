"""Looking at the steps of a top-down network."""

import pytest
import torch
from torch import nn

from mmattn.backbones import TDResNet
from mmattn.backbones.td_resnet import TDBottleneck
from mmattn.backbones.top_down import at_step, count_steps, outputs_per_step
from tests.backbones.networks import shake
from tests.backbones.top_down_cases import make_block


def net(**options):
    torch.manual_seed(0)
    options = {'depth': 50, 'steps': 3, **options}
    return shake(TDResNet(base_channels=8, reduction=4, norm_eval=False, **options)).eval()


def x():
    return torch.randn(2, 3, 64, 48, generator=torch.Generator().manual_seed(1))


class Classifier(nn.Module):
    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        self.fc = nn.Linear(256, 5)

    def forward(self, v, scale=1):
        return scale * self.fc(self.backbone(v)[-1].mean((2, 3)))


@pytest.mark.parametrize('distance', [0, 1, 3])
@pytest.mark.parametrize('init', ['paper', 'identity'])
def test_a_blocks_steps_are_its_outputs_had_it_stopped(distance, init):
    torch.manual_seed(0)
    block = make_block(
        TDBottleneck, 16, 4, steps=3, distance=distance, reduction=4, init=init
    ).eval()
    if init == 'identity':
        nn.init.constant_(block.searchlight.gamma, 0.5)
    v = torch.randn(2, 16, 5, 5)
    outs = block.forward_steps(v)
    assert len(outs) == 3
    for step, out in enumerate(outs, 1):
        torch.testing.assert_close(block(v, steps=step), out)
    torch.testing.assert_close(block(v), outs[-1])
    assert not torch.allclose(outs[0], outs[1]) and not torch.allclose(outs[1], outs[2])


def test_step_one_of_a_block_is_the_plain_block():
    block = make_block(TDBottleneck, 16, 4, reduction=4).eval()
    v = torch.randn(2, 16, 5, 5)
    with torch.no_grad():
        branch = block.bn3(
            block.conv3(block.bn2(block.conv2(block.bn1(block.conv1(v)).relu())).relu())
        )
    torch.testing.assert_close(block.forward_steps(v)[0], (v + branch).relu())


def test_only_the_last_stage_stops():
    model = net()
    whole = model(x())
    outs = outputs_per_step(model, x())
    assert len(outs) == count_steps(model) == 3
    for step, maps in enumerate(outs, 1):
        for level in range(3):
            assert torch.equal(maps[level], whole[level])
        v = whole[2]
        for block in model.layer4:
            v = block(v, steps=step)
        torch.testing.assert_close(maps[3], v)
    torch.testing.assert_close(outs[-1][3], whole[3])


def test_the_last_stage_that_has_top_down_blocks():
    model = net(blocks=[[], [], [0, 2], []])
    outs = outputs_per_step(model, x())
    assert torch.equal(outs[0][1], outs[1][1]) and not torch.equal(outs[0][2], outs[1][2])


def test_logits_of_a_classifier_and_no_traces():
    model = Classifier(net())
    logits = outputs_per_step(model, x(), scale=2)
    assert [tuple(each.shape) for each in logits] == [(2, 5)] * 3
    torch.testing.assert_close(logits[-1], model(x(), scale=2))
    again = outputs_per_step(model, x(), forward=lambda m, v: m(v, scale=2))
    torch.testing.assert_close(again[0], logits[0])
    with pytest.raises(RuntimeError, match='stop'), at_step(model, 1):
        raise RuntimeError('stop')
    assert not any(module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize('step', [0, 4, True])
def test_step_out_of_range(step):
    with (
        pytest.raises(ValueError, match=f'step must be from 1 to 3, got {step}'),
        at_step(net(), step),
    ):
        pass


def test_no_top_down_block():
    model = net(steps=1)
    assert count_steps(model) == 1
    with pytest.raises(ValueError, match='must have a top-down block, got TDResNet with none'):
        outputs_per_step(model, x())
