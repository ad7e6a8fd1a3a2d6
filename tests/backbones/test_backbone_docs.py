"""What docs/backbones.md and docs/map_fell.md show runs as it stands there."""

import re
from pathlib import Path

import pytest
import torch
from mmengine.optim import build_optim_wrapper

from mmattn.convs import AWConv2d
from tests.backbones.networks import build
from tests.backbones.test_attend import HOSTS, attend

DOCS = Path(__file__).parents[2] / 'docs'
TEXT = (DOCS / 'backbones.md').read_text() + (DOCS / 'map_fell.md').read_text()
BLOCKS = re.findall(r'```python\n(.*?)```', TEXT, re.DOTALL)


def example(word):
    """The names a block of the page defines."""
    (block,) = (block for block in BLOCKS if word in block)
    indent = len(block) - len(block.lstrip())
    names = {}
    exec('\n'.join(line[indent:] for line in block.splitlines()), names)
    return names


def patterns():
    """Rows of the table of patterns: host, for ``after``, for ``replace``."""
    table = TEXT[TEXT.index('| network | blocks') :]
    for line in table.split('\n\n')[0].splitlines()[2:]:
        host, after, replace = re.split(r'(?<!\\)\|', line.strip('| '))[:3]
        name = re.search(r'`(\w+)`', host)[1]
        yield name, *(cell.strip(' `').replace('\\|', '|') for cell in (after, replace))


def test_attention_resnet_example():
    cfg = example("'mmattn.AttentionResNet'")['model']['backbone']
    net = build(**cfg, depth=50, base_channels=16)
    assert [hasattr(stage[0], 'cbam') for stage in (net.layer1, net.layer2)] == [False, True]
    assert [isinstance(s[0].conv2, AWConv2d) for s in (net.layer1, net.layer3)] == [False, True]
    assert hasattr(net, 'layer3_bam') and not hasattr(net, 'layer4_bam')
    gates = [type(gate).__name__ for gate in net.layer3[4].children()]
    assert gates.count('NonLocal') == 1


def test_attend_example():
    cfg = example("'mmattn.Attend'")['model']['backbone']
    net = build(**cfg, deepen_factor=0.33, widen_factor=0.25)
    assert sorted(net.attend) == ['level1_eca', 'level2_eca', 'stage3_cbam', 'stage4_cbam']
    assert sum(isinstance(m, AWConv2d) for m in net.modules()) > 0


def nets_with_cbam() -> list:
    """Gates in blocks with AW-convolutions, and gates on maps; both start as a no-op."""
    gate = dict(type='mmattn.CBAM', init='identity')
    inside = build(
        'mmattn.AttentionResNet',
        depth=18,
        base_channels=8,
        attention=[dict(gate=gate, position='after_add')],
        conv2=dict(type='mmattn.AWConv2d', init='identity'),
        basic_convs=(2,),
    )
    return [inside, attend('ResNet', [dict(gate=gate)], depth=18, base_channels=8)]


@pytest.mark.parametrize('others', [{}, {'backbone': dict(lr_mult=0.1, decay_mult=1.0)}])
def test_learning_rate_example(others):
    """New parameters get ten times the rate, gammas no decay; also beside DETR's key."""
    wrapper = example('paramwise_cfg')['optim_wrapper']
    wrapper['paramwise_cfg']['custom_keys'].update(others)
    plain = 0.1 * others.get('backbone', {}).get('lr_mult', 1.0)
    for backbone in nets_with_cbam():
        net = torch.nn.ModuleDict(dict(backbone=backbone))
        optimizer = build_optim_wrapper(
            net, dict(optimizer=dict(type='SGD', lr=0.1, weight_decay=1e-2), **wrapper)
        ).optimizer
        found = {id(p): group for group in optimizer.param_groups for p in group['params']}
        new = {f'backbone.{name}' for name in backbone.added_parameters()}
        assert len(new) > 20
        for name, parameter in net.named_parameters():
            group = found[id(parameter)]
            assert group['lr'] == pytest.approx(1.0 if name in new else plain), name
            assert group['weight_decay'] == (0 if name.endswith('.gamma') else 1e-2), name


@pytest.mark.parametrize('host, after, replace', list(patterns()))
def test_patterns(host, after, replace):
    if host == 'SSDHead':
        options = dict(num_classes=3, in_channels=(8, 16, 16, 8, 8, 8))
        options['anchor_generator'] = dict(
            type='SSDAnchorGenerator',
            scale_major=False,
            input_size=300,
            strides=[8, 16, 32, 64, 100, 300],
            basesize_ratio_range=(0.15, 0.9),
            ratios=[[2], [2, 3], [2, 3], [2, 3], [2], [2]],
        )
    else:
        options = HOSTS[host][0]
    rules = [dict(conv=dict(type='mmattn.AWConv2d'), replace=replace)]
    if after:
        rules.append(dict(gate=dict(type='mmattn.SE'), after=after))
    net = attend(host, rules, **options)
    exchanged = [m for m in net.modules() if isinstance(m, AWConv2d)]
    assert len(exchanged) >= 3
    assert {m.kernel_size for m in exchanged} == {(3, 3)}
    assert not after or len(net.attend) >= 3
