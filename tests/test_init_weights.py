"""What a method says of its initial values holds in every model around it.

A ``BaseModule`` applies its rules to all layers inside it and then calls ``init_weights()`` of
its children. A child without one, such as ``nn.ModuleList``, ends the walk, and the rules stay
where a method has values of its own.
"""

import pytest
import torch
from mmengine.model import BaseModule
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import init_default_scope
from torch import nn

import mmattn
from mmattn.registry import MODELS

from .auxiliary.models import OPTIONS, TOY

CHANNELS = 16
GATE = dict(type='mmattn.CBAM', reduction=4)  # a norm that starts at 0
RESNET = dict(type='ResNet', depth=18, stem_channels=8, base_channels=8)
RULES = [
    dict(gate=GATE, levels=(0, 1)),
    dict(gate=GATE, after=r'layer1\.0\.conv1'),
    dict(conv=dict(type='mmattn.AWConv2d'), replace=r'layer1\.1\.conv1'),
]
# what a name needs beside in_channels
OPTIONS_OF = {
    'Sequence': dict(gates=[dict(type='CBAM'), dict(type='NonLocal')]),
    'GlobalContext': dict(reduction=4),
    'LinearAutoencoderAttention': dict(width=7),
    'AWConv2d': dict(out_channels=8, kernel_size=3),
    'AAConv2d': dict(out_channels=8, kernel_size=3, padding=1, num_heads=2, dk=4, dv=2),
    'LearnToPay': dict(global_channels=12),
    'LearnToPayHead': dict(num_classes=3, in_channels=[8, CHANNELS]),
    'ReportHead': dict(num_classes=3),
    'AWFPN': dict(in_channels=[8, CHANNELS], out_channels=8, num_outs=3, gate_cfg=GATE),
    'SSDHead': dict(
        num_classes=3,
        in_channels=[CHANNELS],
        anchor_generator=dict(
            type='SSDAnchorGenerator',
            scale_major=False,
            input_size=300,
            basesize_ratio_range=(0.15, 0.9),
            strides=[8],
            ratios=[[2]],
        ),
    ),
    'Attend': dict(wrapped=RESNET, attention=RULES),
    'AttentionResNet': dict(
        depth=50,
        stem_channels=8,
        base_channels=8,
        attention=[
            *(
                dict(gate=GATE, position=position)
                for position in ('after_conv1', 'after_conv3', 'after_add', 'after_stage')
            )
        ],
        conv2=dict(type='mmattn.AWConv2d'),
    ),
    'MobileNetV1': dict(widen_factor=0.25),
    'WideResNet': dict(depth=10, widen_factor=1),
    'ReportCNN': dict(),
    'TDResNet': dict(depth=18, stem_channels=8, base_channels=8),
    'TDConvNeXt': dict(arch=dict(depths=[1, 1, 1, 1], channels=[8, 8, 16, 16])),
    'TDMobileNetV3': dict(arch='small'),
    'WSDANHead': dict(num_classes=3),
    'WSDAN': dict(
        backbone=RESNET,
        head=dict(type='mmattn.WSDANHead', num_classes=3, in_channels=64),
    ),
    'StepClassifier': dict(
        backbone=dict(type='mmattn.TDResNet', depth=18, stem_channels=8, base_channels=8),
        head=dict(type='LinearClsHead', num_classes=3, in_channels=64),
    ),
    'SSIA': dict(model=TOY, **{k: v for k, v in OPTIONS.items() if k != 'type'}),
}
WITHOUT_WIDTH = {'Attend', 'AttentionResNet', 'MobileNetV1', 'WideResNet', 'ReportCNN', 'SSIA'}
WITHOUT_WIDTH |= {
    'WSDAN',
    'StepClassifier',
    'TDResNet',
    'TDConvNeXt',
    'TDMobileNetV3',
    'EfficientNetLite',
    'LearnToPayVGG',
}
NEEDS = {
    'LearnToPayHead': 'mmpretrain',
    'LearnToPayVGG': 'mmpretrain',
    'ReportHead': 'mmpretrain',
    'StepClassifier': 'mmpretrain',
    'WSDAN': 'mmpretrain',
    'WSDANHead': 'mmpretrain',
    'TDConvNeXt': 'mmpretrain',
    'TDMobileNetV3': 'mmpretrain',
}


def names() -> list[str]:
    mmattn.register_all_modules()
    return sorted(
        name for name, cls in MODELS.module_dict.items() if cls.__module__.startswith('mmattn.')
    )


def build(name: str) -> nn.Module:
    pytest.importorskip(NEEDS.get(name, 'mmdet'))
    init_default_scope(NEEDS.get(name, 'mmdet'))
    width = {} if name in WITHOUT_WIDTH else dict(in_channels=CHANNELS)
    return ROOT_MODELS.build(dict(type=f'mmattn.{name}', **{**width, **OPTIONS_OF.get(name, {})}))


class Around(BaseModule):
    """A model with a rule that reaches every layer with a weight."""

    def __init__(self, part: nn.Module) -> None:
        layers = sorted({type(m).__name__ for m in part.modules() if hasattr(m, 'weight')})
        super().__init__(
            [dict(type='Constant', layer=layers, val=7.0, bias=7.0)] if layers else None
        )
        self.part = part


def gives_itself_values(module: nn.Module) -> bool:
    """Whether it is a method of ours, not a network with rules, and has ``init_weights``."""
    ours = type(module).__module__.startswith('mmattn.') and hasattr(module, 'init_weights')
    return ours and not isinstance(module, BaseModule)


@pytest.mark.parametrize('name', names())
def test_the_rules_around_it_do_not_stay(name):
    around = Around(build(name))
    around.init_weights()
    for key, module in around.named_modules():
        if gives_itself_values(module):
            for inner, parameter in module.named_parameters():
                assert not (parameter == 7).all(), f'{key}.{inner}'


@pytest.mark.parametrize('name', sorted(WITHOUT_WIDTH - {'Attend', 'SSIA'}))
def test_a_network_has_a_rule_for_each_of_its_layers(name):
    around = Around(build(name))
    around.init_weights()
    for key, parameter in around.part.named_parameters():
        assert not (parameter == 7).all(), key


def test_the_methods_in_the_networks_are_seen():
    """The test above looks at what it should."""
    inside = {
        name: sum(gives_itself_values(module) for module in build(name).modules())
        for name in ('CBAM', 'Sequence', 'Attend', 'AttentionResNet', 'AWFPN', 'SSIA')
    }
    blocks = 16  # of ResNet-50, with 3 gates each, and a gate after each of 4 stages
    assert inside == {
        'CBAM': 1, 'Sequence': 3, 'Attend': 3, 'AttentionResNet': 3 * blocks + 4, 'AWFPN': 4,
        'SSIA': 4,
    }  # fmt: skip


def test_a_list_of_torch_ends_the_walk():
    """What the test above finds: a gate in a container that the walk does not enter."""
    gate = ROOT_MODELS.build(dict(GATE, type='mmattn.CBAM', in_channels=CHANNELS))
    around = Around(nn.ModuleList([gate]))
    around.init_weights()
    assert torch.equal(gate.spatial[1].weight, torch.full((1,), 7.0))
