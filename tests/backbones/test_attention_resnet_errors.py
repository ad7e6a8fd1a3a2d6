"""What AttentionResNet refuses, and in which words."""

import pytest

from mmattn.registry import MODELS
from tests.backbones.networks import gate
from tests.backbones.test_attention_resnet import AW, Halve, net, rule


@pytest.fixture(autouse=True, scope='module')
def _foreign_gate():
    MODELS.register_module(module=Halve)
    yield
    MODELS.module_dict.pop('Halve')


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(depth=51), r'depth must be one of \[18, 34, 50, 101, 152\], got 51'),
        (
            dict(attention=[rule('after_conv4')]),
            r"position must be one of 'after_conv\d'.*'after_stage'.* got 'after_conv4'",
        ),
        (
            dict(depth=18, attention=[rule('after_conv3')]),
            r"position must be one of .* in a BasicBlock network, got 'after_conv3' \(its last "
            r'convolution is the second: after_conv2\)',
        ),
        (dict(attention=[dict(gate=gate())]), r'position must be one of .* got None'),
        (
            dict(attention=[rule('after_conv3', stages=(4,))]),
            r'stages must be a list of 4 booleans or of indices from 0 to 3, got \(4,\)',
        ),
        (
            dict(attention=[rule('after_conv3', stages=2)]),
            'stages must be a list of 4 booleans or of indices from 0 to 3, got 2',
        ),
        (
            dict(attention=[rule('after_conv3', stages=(True, False))]),
            r'stages must be a list of 4 booleans .*, got \(True, False\)',
        ),
        (dict(conv2=AW, conv2_stages=(-1,)), r'conv2_stages must be .* got \(-1,\)'),
        (
            dict(attention=[rule('after_add', stages=(2,), blocks=(6,))]),
            r'blocks of stage 2 must be a list of indices from 0 to 5 \(or from the end, '
            r'-6 to -1\), got \(6,\)',
        ),
        (
            dict(attention=[rule('after_add', stages=(2,), blocks=0)]),
            'blocks of stage 2 must be a list of indices .*, got 0',
        ),
        (
            dict(attention=[rule('after_add', blocks={4: (0,)})]),
            r'blocks must be a list of 4 booleans or of indices from 0 to 3, got \(4,\)',
        ),
        (
            dict(attention=[rule('after_add', stages=(0,), blocks={0: (0,)})]),
            'stages must be left out when blocks is a dict',
        ),
        (
            dict(attention=[rule('after_stage', blocks=(0,))]),
            r"blocks has no meaning with 'after_stage', got \(0,\)",
        ),
        (
            dict(attention=[rule('after_conv3', 'Halve')]),
            r"gate must keep the shape of its input, got 'mmattn.Halve', which turns "
            r'\(1, 32, 8, 8\) into \(1, 32, 4, 8\)',
        ),
        (
            dict(attention=[dict(rule('after_conv3'), stage=1)]),
            r"a rule of attention takes .*'stages'.*, got 'stage'",
        ),
        (
            dict(attention=[dict(position='after_conv3')]),
            r"a rule of attention needs 'gate', got \['position'\]",
        ),
        (
            dict(attention=[dict(gate=dict(type='SE'), position='after_conv3')]),
            "gate must have a type with its scope, 'mmattn.SE', got 'SE'",
        ),
        (
            dict(conv2=dict(type='AWConv2d')),
            "conv must have a type with its scope, 'mmattn.AWConv2d', got 'AWConv2d'",
        ),
        (
            dict(depth=18, plugins=[dict(cfg=gate(), position='after_conv3')]),
            r'plugins must be left out at depth 18, .* write attention=\[dict\(gate',
        ),
        (dict(depth=18, groups=32), 'groups must be 1 for depth 18, got 32'),
        (dict(depth=18, conv2=AW, basic_convs=(3,)), r'basic_convs must be a list .* got \(3,\)'),
        (dict(conv2=dict(type='mmattn.SE')), "conv must be a convolution, got 'mmattn.SE'"),
        (
            dict(conv2=AW, dcn=AW, stage_with_dcn=(False, False, False, True)),
            'conv2_stages must not meet stage_with_dcn, got stage 3',
        ),
    ],
)
def test_errors(options, message):
    with pytest.raises(ValueError, match=message):
        net(**options)


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(attention=['mmattn.SE']), 'attention must be a list of dicts, got str in it'),
        (dict(attention=rule('after_add')), r"attention must be a list, got \{'gate'"),
        (dict(depth=18, conv2=AW, basic_convs=2), 'basic_convs must be a list, got 2'),
        (
            dict(attention=[dict(gate='mmattn.SE', position='after_add')]),
            r"gate must be a dict like dict\(type='mmattn.SE'\), got 'mmattn.SE'",
        ),
        (dict(conv2='mmattn.AWConv2d'), "conv2 must be a dict or None, got 'mmattn.AWConv2d'"),
        (dict(conv2=dict(norm='GN')), r"conv must be a dict like .*, got \{'norm': 'GN'\}"),
    ],
)
def test_rules_and_configs_are_dicts(options, message):
    with pytest.raises(TypeError, match=message):
        net(**options)
