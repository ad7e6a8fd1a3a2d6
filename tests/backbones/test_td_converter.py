"""tools/model_converters/tdam_to_mmattn.py on made-up networks with all the authors' keys."""

import argparse

import pytest
import torch

from mmattn.backbones import TDResNet
from mmattn.backbones.tdam_checkpoints import convert
from tests.commands import run_command


def run(*words):
    return run_command('model_converters/tdam_to_mmattn.py', *words)


def norm(name, width):
    shapes = {f'{name}.{part}': (width,) for part in ('weight', 'bias')}
    shapes |= {f'{name}.running_{part}': (width,) for part in ('mean', 'var')}
    return shapes | {f'{name}.num_batches_tracked': ()}


def author_shapes(depths, bottleneck, m, joint, t=2, classes=1000, blocks=None, r=16):
    """Key -> shape as the authors' ResNet has them (width 64), from its print-out."""
    out = {'conv1.weight': (64, 3, 7, 7), **norm('bn1', 64)}
    inplanes = 64
    for stage, depth in enumerate(depths):
        planes = 64 * 2**stage
        wide = planes * (4 if bottleneck else 1)
        for index in range(depth):
            name = f'layer{stage + 1}.{index}'
            if bottleneck:
                kernels = [(planes, inplanes, 1), (planes, planes, 3), (wide, planes, 1)]
            else:
                kernels = [(planes, inplanes, 3), (planes, planes, 3)]
            count = len(kernels)
            for i, (o, c, k) in enumerate(kernels, 1):
                out[f'{name}.conv{i}.weight'] = (o, c, k, k)
                out |= norm(f'{name}.bn{i}', o)
            if index == 0 and (stage or bottleneck):
                out[f'{name}.downsample.0.weight'] = (wide, inplanes, 1, 1)
                out |= norm(f'{name}.downsample.1', wide)
            chosen = stage >= 2 if blocks is None else index in blocks.get(stage, ())
            if chosen:
                for k in range(1, t):
                    for i in range(count - m + 1, count + 1):
                        out |= norm(f'{name}.bn{i}_{k}', kernels[i - 1][0])
                low = kernels[count - m][1] if m else wide
                hidden = wide // r
                layers = (
                    {
                        'Ug_top_mlp.0': (hidden, wide),
                        'Ug_bottom_mlp.0': (hidden, low),
                        'Ug_mlp.0': (low, 2 * hidden),
                    }
                    if joint
                    else {'Ug_mlp.0': (hidden, wide), 'Ug_mlp.2': (low, hidden)}
                )
                for layer, shape in layers.items():
                    out[f'{name}.RA_block.{layer}.weight'] = (*shape, 1, 1)
            inplanes = wide
    return out | {'fc.weight': (classes, inplanes), 'fc.bias': (classes,)}


def author_state(*args, **kwargs):
    """Values that tell the keys apart without much memory: one number, spread out."""
    shapes = author_shapes(*args, **kwargs)
    return {k: torch.tensor(float(i)).expand(s) for i, (k, s) in enumerate(shapes.items())}


R18, R50, R101 = ((2, 2, 2, 2), False), ((3, 4, 6, 3), True), ((3, 4, 23, 3), True)


@pytest.mark.parametrize(
    'net, options, expected, parameters',
    [
        pytest.param(
            R50,
            dict(m=1, joint=True),
            dict(depth=50, steps=2, distance=1, attention='joint', reduction=16),
            27645992,
            id='r50-joint-t2m1',
        ),
        pytest.param(
            R18,
            dict(m=2, joint=True),
            dict(depth=18, steps=2, distance=2, attention='joint', reduction=16),
            11828776,
            id='r18-joint-t2m2',
        ),
        pytest.param(
            R50,
            dict(m=3, joint=False, t=3),
            dict(depth=50, steps=3, distance=3, attention='top', reduction=16),
            None,
            id='r50-top-t3m3',
        ),
        pytest.param(
            R101,
            dict(m=1, joint=True, blocks={2: (0, 1, 2, 8, 13, 18, 22), 3: (0, 1, 2)}),
            dict(depth=101, steps=2, distance=1, attention='joint', reduction=16),
            46754856,
            id='r101-joint-t2m1',
        ),
        pytest.param(
            R18,
            dict(m=1, joint=False, r=8),
            dict(depth=18, steps=2, distance=1, attention='top', reduction=8),
            None,
            id='another reduction',
        ),
    ],
)
def test_every_tensor_arrives(net, options, expected, parameters):
    given = author_state(*net, **options)
    state, found = convert({'state_dict': {f'module.{k}': v for k, v in given.items()}})
    assert {key: found[key] for key in expected} == expected
    assert len(state) == len(given)
    words = {'RA_block': 'searchlight', 'Ug_top_mlp.0': 'top', 'Ug_bottom_mlp.0': 'bottom'}
    words |= {'Ug_mlp.0': 'out'} if options['joint'] else {'Ug_mlp.0': 'top', 'Ug_mlp.2': 'out'}
    for key, value in given.items():
        ours = key
        for theirs, word in words.items():
            ours = ours.replace(theirs, word)
        ours = f'head.{ours}' if key.startswith('fc') else f'backbone.{ours}'
        assert state[ours] is value, key
    if parameters:
        learned = [v for k, v in state.items() if 'running' not in k and 'num_batches' not in k]
        assert sum(v.numel() for v in learned) == parameters


def test_the_file_loads_strictly(tmp_path, capsys):
    source, target = tmp_path / 'theirs.pth.tar', tmp_path / 'out' / 'ours.pth'
    given = author_state(*R18, m=2, joint=True, classes=7)
    saved = {k: v.clone() for k, v in given.items() if 'num_batches' not in k}  # an old file
    torch.save({'epoch': 3, 'arch': 'tdresnet18', 'state_dict': saved}, source)
    assert run(source, target) == 0
    assert "dict(type='mmattn.TDResNet', depth=18, steps=2" in capsys.readouterr().out
    loaded = torch.load(target, weights_only=True)
    with torch.device('meta'):
        net = TDResNet(**loaded['meta']['backbone'])
    state = {k[9:]: v for k, v in loaded['state_dict'].items() if k.startswith('backbone.')}
    net.load_state_dict(state, assign=True)
    assert torch.equal(
        net.layer4[1].searchlight.top.weight, given['layer4.1.RA_block.Ug_top_mlp.0.weight']
    )
    assert loaded['state_dict']['head.fc.bias'].shape == (7,)
    assert run(source, tmp_path) == 2
    assert 'Is a directory' in capsys.readouterr().err


def broken(change):
    state = author_state(*R18, m=2, joint=True)
    change(state)
    return state


@pytest.mark.parametrize(
    'change, text',
    [
        (lambda s: s.pop('layer1.0.bn1.bias'), 'missing: backbone.layer1.0.bn1.bias'),
        (
            lambda s: s.update({'layer3.0.RA_block.extra.weight': torch.zeros(1)}),
            'unknown: backbone.layer3.0.searchlight.extra.weight',
        ),
        (
            lambda s: s.update({'fc.bias': torch.zeros(3)}),
            r'of another shape: head.fc.bias \(3,\) instead of \(1000,\)',
        ),
        (lambda s: s.pop('layer4.1.bn1_1.weight'), 'top-down blocks differ: .* layer4.1'),
        (
            lambda s: [s.pop(k) for k in list(s) if 'RA_block' in k],
            r'no top-down block \(RA_block\)',
        ),
        (
            lambda s: [s.pop(k) for k in list(s) if k.startswith('layer4.1')],
            r'it has \(2, 2, 2, 1\) blocks of 2 convolutions',
        ),
        (
            lambda s: [s.pop(k) for k in list(s) if '_1.' in k],
            'give --steps and --distance',
        ),
        (
            lambda s: [s.pop(k) for k in list(s) if k.startswith('layer')],
            'no key like layer1.0.conv1.weight: conv1.weight, bn1.weight',
        ),
        (
            lambda s: s.update({'layer3.0.RA_block.Ug_top_mlp.0.weight': torch.zeros(5)}),
            'layer3.0.RA_block has no layer for the top',
        ),
        (lambda s: s.update({'fc.weight': torch.zeros(3)}), 'unknown: head.fc.weight'),
        (lambda s: s.update({1: torch.zeros(1)}), 'must hold a state dict of tensors'),
    ],
)
def test_refusals(change, text, tmp_path, capsys):
    with pytest.raises(ValueError, match=text):
        convert(broken(change))


def test_exit_codes(tmp_path, capsys):
    assert run(tmp_path / 'none.pth', tmp_path / 'out.pth') == 2
    assert 'none.pth does not exist' in capsys.readouterr().err
    torch.save({'state_dict': 3}, tmp_path / 'bad.pth')
    assert run(tmp_path / 'bad.pth', tmp_path / 'out.pth') == 2
    assert 'must hold a state dict' in capsys.readouterr().err
    (tmp_path / 'empty.pth').touch()
    assert run(tmp_path / 'empty.pth', tmp_path / 'out.pth') == 2
    assert 'empty.pth cannot be read, its file is empty' in capsys.readouterr().err
    settings = argparse.HelpFormatter('x')  # more than plain values
    torch.save(
        {'state_dict': author_state(*R18, m=2, joint=True), 'args': settings}, tmp_path / 'x'
    )
    assert run(tmp_path / 'x', tmp_path / 'out.pth') == 2
    assert 'with --trust' in capsys.readouterr().err
    assert not (tmp_path / 'out.pth').exists()
    assert run(tmp_path / 'x', tmp_path / 'out.pth', '--trust') == 0


def test_distance_0_is_told_by_the_user():
    state, options = convert(author_state(*R50, m=0, joint=True), distance=0, steps=2)
    assert options['distance'] == 0 and options['steps'] == 2
