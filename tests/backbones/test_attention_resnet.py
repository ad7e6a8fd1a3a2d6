import copy
import io
import pickle
import warnings

import pytest
import torch
import torchvision
from mmdet.models.backbones import ResNet, ResNeXt
from mmengine.config import Config
from mmengine.runner import load_checkpoint
from torch import nn
from torch.nn import functional as F

from mmattn.backbones import AttentionResNet
from mmattn.convs import AWConv2d
from mmattn.layers import CBAM, SE
from mmattn.registry import MODELS as MMATTN_MODELS
from tests.backbones.networks import (
    HOOKS_BREAK_GRAPHS,
    any_gate,
    build,
    distance,
    gate,
    gates,
    image,
    loss,
    missing_keys,
    pair,
    run,
    shake,
)

IN_BASIC = ['after_conv1', 'before_norm2', 'after_conv2', 'after_add', 'after_stage']
IN_BOTTLENECK = [*IN_BASIC, 'after_conv3']
AW = dict(type='mmattn.AWConv2d')


# the first two stages alone, for tables with many rows
SHORT = dict(num_stages=2, strides=(1, 2), dilations=(1, 1), out_indices=(0, 1))


def net(depth=50, base_channels=8, **options):
    torch.manual_seed(0)
    return build('mmattn.AttentionResNet', depth=depth, base_channels=base_channels, **options)


def rule(position, name='SE', stages=None, blocks=None, **options):
    return dict(gate=gate(name, **options), position=position, stages=stages, blocks=blocks)


# ---------------------------------------------------------------- what is computed where


class Double(nn.Module):
    """A gate that leaves a trace: ``2 x + 1``."""

    _abbr_ = 'twice'

    def __init__(self, in_channels, factor=2.0):
        super().__init__()
        self.in_channels, self.factor = in_channels, factor

    def forward(self, x):
        return self.factor * x + 1


class Halve(nn.Module):
    """Not a gate: it drops every other row."""

    def __init__(self, in_channels):
        super().__init__()

    def forward(self, x):
        return x[:, :, ::2]


@pytest.fixture(autouse=True, scope='module')
def _foreign_gates():
    for cls in (Double, Halve):
        MMATTN_MODELS.register_module(module=cls)
    yield
    for cls in (Double, Halve):
        MMATTN_MODELS.module_dict.pop(cls.__name__)


def blocks(model):
    return [block for name in model.res_layers for block in getattr(model, name)]


def by_hand(model, x, position):
    """The network written out, with ``2 x + 1`` at one position of every block or stage."""

    def at(place, x):
        return 2 * x + 1 if place == position else x

    def norm(block, i):
        return getattr(block, getattr(block, f'norm{i}_name'))

    def run(block, x):
        last = 3 if hasattr(block, 'conv3') else 2
        out = x
        for i in range(1, last + 1):
            conv = getattr(block, f'conv{i}')
            out = F.conv2d(out, conv.weight, None, conv.stride, conv.padding, conv.dilation)
            if i == 2:
                out = at('before_norm2', out)
            out = norm(block, i)(out)
            out = out if i == last else out.relu()
            out = at(f'after_conv{i}', out)
        shortcut = x if block.downsample is None else block.downsample(x)
        return at('after_add', (out + shortcut).relu())

    x = model.maxpool(norm(model, 1)(model.conv1(x)).relu())
    outs = []
    for name in model.res_layers:
        for block in getattr(model, name):
            x = run(block, x)
        x = at('after_stage', x)
        outs.append(x)
    return outs


@pytest.mark.parametrize(
    'depth, position', [(18, p) for p in IN_BASIC] + [(50, p) for p in IN_BOTTLENECK]
)
@pytest.mark.parametrize('training', [True, False], ids=['train', 'eval'])
def test_a_gate_acts_where_its_position_says(depth, position, training):
    model = shake(net(depth, norm_eval=False, attention=[rule(position, 'Double')]))
    model.train(training)
    x = image()
    for out, expected in zip(model(x), by_hand(model, x, position)):
        torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-4)


def test_several_gates_at_one_position_run_in_their_order():
    first, second = dict(factor=2.0), dict(factor=5.0)
    order = [rule('after_conv3', 'Double', **first), rule('after_conv3', 'Double', **second)]
    models = [shake(net(attention=rules)).eval() for rules in (order, order[::-1])]
    block = models[0].layer1[0]
    assert block.after_conv3_plugin_names == ['twice', 'twice_2']
    assert [block.twice.factor, block.twice_2.factor] == [2.0, 5.0]
    assert block.forward_plugin(torch.ones(1), block.after_conv3_plugin_names).item() == 16.0
    assert distance(models[0](image()), models[1](image())) > 1e-3  # 5(2x+1)+1 != 2(5x+1)+1


@pytest.mark.parametrize('position', ['after_conv1', 'before_norm2', 'after_conv2', 'after_add'])
def test_order_in_basic_blocks(position):
    rules = [rule(position, 'Double', factor=2.0), rule(position, 'Double', factor=5.0)]
    models = [shake(net(18, attention=r)).eval() for r in (rules, rules[::-1])]
    assert distance(models[0](image()), models[1](image())) > 1e-3


@pytest.mark.parametrize(
    'depth, position, width',
    [
        (50, 'after_conv1', 1),
        (50, 'before_norm2', 1),
        (50, 'after_conv2', 1),
        (50, 'after_conv3', 4),
        (50, 'after_add', 4),
        (18, 'after_conv1', 1),
        (18, 'before_norm2', 1),
        (18, 'after_conv2', 1),
        (18, 'after_add', 1),
    ],
)
def test_width_of_a_gate(depth, position, width):
    model = net(depth, attention=[rule(position, 'Double')])
    widths = [getattr(model, name)[-1].twice.in_channels for name in model.res_layers]
    assert widths == [8 * width, 16 * width, 32 * width, 64 * width]


def test_width_after_a_stage():
    model = net(50, attention=[rule('after_stage', 'Double', stages=(0, 2))])
    assert model.layer1_twice.in_channels == 32
    assert model.layer3_twice.in_channels == 128
    assert not hasattr(model, 'layer2_twice')


@pytest.mark.parametrize(
    'where, expected',
    [
        (dict(), {0: [0, 1, 2], 1: [0, 1, 2, 3], 2: [0, 1, 2, 3, 4, 5], 3: [0, 1, 2]}),
        (dict(stages=(False, True, False, True)), {1: [0, 1, 2, 3], 3: [0, 1, 2]}),
        (dict(stages=(1, 3), blocks=(0, -1)), {1: [0, 3], 3: [0, 2]}),
        (dict(stages=(1,), blocks=(3, 1, -1)), {1: [1, 3]}),
        (dict(stages=[2], blocks=[4]), {2: [4]}),
        (dict(blocks={2: [0, 5], 3: None}), {2: [0, 5], 3: [0, 1, 2]}),
        (dict(stages=()), {}),
    ],
    ids=['all', 'bools', 'from the end', 'twice', 'one', 'dict', 'none'],
)
def test_stages_and_blocks(where, expected):
    model = net(attention=[dict(gate=gate(), position='after_conv3', **where)])
    found = {}
    for i, name in enumerate(model.res_layers):
        chosen = [j for j, block in enumerate(getattr(model, name)) if hasattr(block, 'se')]
        if chosen:
            found[i] = chosen
    assert found == expected
    assert sum(isinstance(m, SE) for m in model.modules()) == sum(map(len, expected.values()))


def test_blocks_as_a_dict_survive_a_config_file(tmp_path):
    (tmp_path / 'a.py').write_text(
        "model = dict(type='mmattn.AttentionResNet', depth=50, base_channels=8, attention=["
        "dict(gate=dict(type='mmattn.SE'), position='after_add', blocks={2: (0, 1), 3: None})])"
    )
    Config.fromfile(tmp_path / 'a.py').dump(tmp_path / 'b.py')
    model = build(**Config.fromfile(tmp_path / 'b.py').model)
    assert [hasattr(block, 'se') for block in model.layer3] == [True] * 2 + [False] * 4
    assert all(hasattr(block, 'se') for block in model.layer4)


# ---------------------------------------------------------------- the 3x3 convolution


def kinds(model):
    return [type(block.conv2) for block in blocks(model)]


def test_conv2_per_stage():
    model = net(conv2=AW, conv2_stages=(False, False, True, True))
    assert kinds(model) == [nn.Conv2d] * 7 + [AWConv2d] * 9
    assert {type(block.conv1) for block in blocks(model)} == {nn.Conv2d}
    assert kinds(net(conv2=AW, conv2_stages=[0])) == [AWConv2d] * 3 + [nn.Conv2d] * 13


@pytest.mark.parametrize('which, expected', [((1, 2), 'both'), ((1,), 'conv1'), ((2,), 'conv2')])
def test_conv2_in_basic_blocks(which, expected):
    model = net(18, conv2=AW, basic_convs=which)
    for block in blocks(model):
        assert isinstance(block.conv1, AWConv2d) == (expected != 'conv2')
        assert isinstance(block.conv2, AWConv2d) == (expected != 'conv1')


def test_conv2_keeps_arguments_and_weights():
    options = dict(groups=4, base_width=4, base_channels=16, dilations=(1, 1, 1, 2))
    options['strides'] = (1, 2, 2, 1)
    torch.manual_seed(0)
    plain = build('ResNeXt', depth=50, **options)
    model = net(**options, conv2=AW)
    for block, host in zip(blocks(model), blocks(plain)):
        for name in ('stride', 'padding', 'dilation', 'groups', 'kernel_size', 'bias'):
            assert getattr(block.conv2, name) == getattr(host.conv2, name)
    weights = [block.conv2.weight.clone() for block in blocks(net(**options))]
    for block, weight in zip(blocks(net(**options, conv2=AW)), weights):
        torch.testing.assert_close(block.conv2.weight, weight)


def test_parameters_of_aw_resnets():
    """SE-ResNet-50 and AW-ResNet-101: 28.09 M and 44.86 M with the classifier's 2,049,000."""
    se = build('mmattn.AttentionResNet', depth=50, attention=[rule('after_conv3')])
    assert sum(p.numel() for p in se.parameters()) == 28088024 - 2049000
    aw = build('mmattn.AttentionResNet', depth=101, conv2=AW)
    assert round((sum(p.numel() for p in aw.parameters()) + 2049000) / 1e6, 2) == 44.86


# ---------------------------------------------------------------- the host's options


@pytest.mark.parametrize('depth', [18, 34, 50, 101, 152])
def test_without_rules_it_is_the_host(depth):
    ours, host = net(depth), build('ResNet', depth=depth, base_channels=8)
    assert isinstance(ours, ResNet)
    assert pair(host, ours) == set()
    assert list(ours.state_dict()) == list(host.state_dict())
    with torch.no_grad():
        assert distance(run(ours), run(host)) == 0


@pytest.mark.parametrize(
    'options',
    [
        dict(deep_stem=True),
        dict(deep_stem=True, avg_down=True),
        dict(style='caffe'),
        dict(norm_cfg=dict(type='GN', num_groups=4)),
        dict(out_indices=(1, 3)),
        dict(num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1), out_indices=(2,)),
        dict(depth=18, norm_cfg=dict(type='GN', num_groups=4)),
    ],
    ids=['deep stem', 'v1d', 'caffe', 'gn', 'out_indices', 'three stages', 'basic gn'],
)
def test_host_options(options):
    options = dict(dict(depth=50), **options)
    rules = [rule(position, init='identity') for position in IN_BASIC]
    ours = net(**options, attention=rules, conv2=dict(AW, init='identity'))
    host = build('ResNet', base_channels=8, **options)
    missing = pair(host, ours)
    assert missing == missing_keys(ours, host)
    with torch.no_grad():
        assert distance(run(ours), run(host)) < 1e-5


def test_resnext():
    options = dict(groups=8, base_width=4, base_channels=16)
    rules = [rule(position, init='identity') for position in IN_BOTTLENECK]
    ours = net(**options, attention=rules, conv2=dict(AW, init='identity'))
    host = ResNeXt(depth=50, **options)
    assert pair(host, ours) == missing_keys(ours, host)
    with torch.no_grad():
        assert distance(run(ours), run(host)) < 1e-5
    assert ours.layer1[0].se.fc1.in_channels == host.layer1[0].conv1.out_channels == 32


@pytest.mark.parametrize('depth, last', [(18, 'bn2'), (50, 'bn3')])
@pytest.mark.parametrize('zero', [True, False])
def test_initial_values(depth, last, zero):
    """The host's rules reach its own parts and not the new ones."""
    rules = [rule('after_conv2', 'CBAM'), rule('after_stage', 'CBAM')]
    model = net(depth, zero_init_residual=zero, attention=rules, conv2=AW)
    for cbam in (m for m in model.modules() if isinstance(m, CBAM)):
        nn.init.constant_(cbam.mlp[0].weight, 7.0)
    model.init_weights()
    for block in blocks(model):
        assert getattr(block, last).weight.abs().max() == (0 if zero else 1)
    for cbam in (m for m in model.modules() if isinstance(m, CBAM)):
        assert cbam.spatial[1].weight.item() == 0  # the host sets every norm to 1
        bound = cbam.mlp[0].in_channels ** -0.5
        assert 0.5 * bound < cbam.mlp[0].weight.abs().max() <= bound  # the host: Kaiming normal


# ---------------------------------------------------------------- checkpoints


@pytest.mark.parametrize('depth', [18, 50])
def test_torchvision_checkpoint(depth, tmp_path):
    """Stock width: everything but the new parts comes from the file, under its own names."""
    torch.manual_seed(3)
    source = shake(getattr(torchvision.models, f'resnet{depth}')())
    torch.save(source.state_dict(), tmp_path / 'resnet.pth')
    rules = [rule('after_conv2', init='identity'), rule('after_stage', 'CBAM', init='identity')]
    model = build(
        'mmattn.AttentionResNet',
        depth=depth,
        attention=rules,
        conv2=dict(AW, init='identity'),
        init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'resnet.pth')),
    )
    model.init_weights()
    state = model.state_dict()
    result = model.load_state_dict(source.state_dict(), strict=False)
    assert set(result.unexpected_keys) == {'fc.weight', 'fc.bias'}
    assert set(result.missing_keys) == missing_keys(model, source)
    new = set(dict(model.named_parameters())) - set(dict(source.named_parameters()))
    assert new == set(model.added_parameters())
    assert all(
        any(part in key for part in ('.se.', '_cbam.', '.conv1.', '.conv2.')) for key in new
    )
    for key, value in source.state_dict().items():
        if not key.startswith('fc.'):
            torch.testing.assert_close(state[key], value, rtol=0, atol=0)
    expected = source.eval()
    x = image(size=(64, 64))
    with torch.no_grad():
        y = expected.maxpool(expected.relu(expected.bn1(expected.conv1(x))))
        outs = []
        for layer in (expected.layer1, expected.layer2, expected.layer3, expected.layer4):
            y = layer(y)
            outs.append(y)
        assert distance(model.eval()(x), outs) < 1e-5


def test_names_are_those_of_the_hosts_plugins():
    plugin = dict(cfg=gate(), position='after_conv3')
    host = build('ResNet', depth=50, base_channels=8, plugins=[plugin])
    ours = net(attention=[rule('after_conv3')])
    ours.load_state_dict(shake(host).state_dict(), strict=True)
    with torch.no_grad():
        assert distance(run(ours), run(host)) == 0


def test_own_checkpoint(tmp_path):
    rules = [rule(p, 'CBAM', blocks=(0,) if p != 'after_stage' else None) for p in IN_BASIC]
    options = dict(attention=rules, conv2=AW, **SHORT)
    first, second = shake(net(**options)), net(**options)
    torch.save(first.state_dict(), tmp_path / 'own.pth')
    second.init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'own.pth'))
    second.init_weights()  # also the gates' values come from the file
    for key, value in first.state_dict().items():
        torch.testing.assert_close(second.state_dict()[key], value, rtol=0, atol=0)
    load_checkpoint(second, str(tmp_path / 'own.pth'), strict=True)


# ---------------------------------------------------------------- freezing


@pytest.mark.parametrize('depth', [18, 50])
def test_frozen_stages_and_norm_eval_spare_what_is_new(depth):
    rules = [rule(position, 'CBAM') for position in IN_BASIC]
    model = net(depth, frozen_stages=2, norm_eval=True, attention=rules, conv2=AW)
    model.train()
    new = model.added_parameters()
    assert len(new) > 100
    for name, parameter in model.named_parameters():
        frozen = name.startswith(('conv1', 'bn1', 'layer1.', 'layer2.')) and name not in new
        assert parameter.requires_grad == (not frozen), name
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            is_new = 'cbam' in name or '.norm' in name
            assert module.training == is_new, name
    before = model.layer1[0].cbam.spatial[1].running_mean.clone()
    model(image())
    assert not torch.equal(model.layer1[0].cbam.spatial[1].running_mean, before)
    assert not any(module.training for module in model.eval().modules())


def test_new_norms_in_eval_mode_on_request():
    rules = [rule('after_conv3', 'CBAM'), rule('after_stage', 'CBAM')]
    model = net(attention=rules, conv2=AW, norm_eval=False, attention_norm_eval=True).train()
    training = {n: m.training for n, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)}
    new = [name for name in training if 'cbam' in name or '.norm' in name]
    assert len(new) == 16 + 4 + 2 * 16
    assert not any(training[name] for name in new)
    assert all(training[name] for name in training if name not in new)


def test_a_classifier_with_fixed_norms_is_warned_once():
    model = net(out_indices=(3,), attention=[rule('after_stage', 'BAM')])
    with pytest.warns(UserWarning, match=r'53 of .* stay in eval mode.*norm_eval=False'):
        model.train()
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        model.train()
        net(out_indices=(3,), norm_eval=False).train()
        net(out_indices=(3,), frozen_stages=1).train()  # a detector on C5 from weights
        net().train()


def test_a_user_may_freeze_what_is_new():
    model = net(attention=[rule('after_conv3')], frozen_stages=1)
    model.layer1[0].se.requires_grad_(False)
    model.train()
    assert not model.layer1[0].se.fc1.weight.requires_grad
    assert model.layer1[1].se.fc1.weight.requires_grad
    assert model.train() is model


# ---------------------------------------------------------------- init='identity'


def identity_rules(name, depth, blocks=None):
    positions = IN_BASIC if depth == 18 else IN_BOTTLENECK
    inside = [p for p in positions if p != 'after_stage']
    cfg = any_gate(name, init='identity')
    rules = [dict(gate=cfg, position=position, blocks=blocks) for position in inside]
    return [*rules, dict(gate=cfg, position='after_stage')]


@pytest.mark.parametrize('depth', [18, 50])
@pytest.mark.parametrize('name', gates())
def test_identity_start_at_every_position(name, depth):
    """All positions at once in the first block of each stage, random statistics, both modes."""
    short = dict(SHORT, norm_eval=False)
    ours = net(depth, 16, attention=identity_rules(name, depth, (0,)), **short)
    host = build('ResNet', depth=depth, base_channels=16, **short)
    ours.init_weights()
    pair(host, ours)
    with torch.no_grad():
        for mode in (False, True):
            assert distance(run(ours, mode), run(host, mode)) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize('depth, kind', [(18, 'ResNet'), (50, 'ResNet'), (50, 'ResNeXt')])
@pytest.mark.parametrize('name', gates())
def test_identity_start_at_stock_width(name, depth, kind):
    options = dict(groups=32, base_width=4) if kind == 'ResNeXt' else {}
    stock = dict(num_stages=4, frozen_stages=1, norm_eval=True, style='pytorch', **options)
    conv2 = dict(AW, init='identity')
    ours = net(depth, 64, attention=identity_rules(name, depth), conv2=conv2, **stock)
    host = build(kind, depth=depth, **stock)
    ours.init_weights()
    pair(host, ours)
    with torch.no_grad():
        for mode in (False, True):
            x = image(size=(128, 160))
            assert distance(run(ours, mode, x), run(host, mode, x)) < 1e-5


AA = dict(type='mmattn.AAConv2d', dk=4, dv=2, num_heads=2)


@pytest.mark.parametrize('depth', [18, 50])
@pytest.mark.parametrize(
    'conv',
    [
        AW,
        AA,
        dict(AA, map_size=(6, 8)),
        dict(AA, aw='conv'),
        dict(AA, aw='qkv'),
        dict(AA, aw='out'),
    ],
    ids=['aw', 'aa', 'aa relative', 'aw-aa-1', 'aw-aa-2', 'aw-aa-3'],
)
def test_identity_start_of_the_convolution(conv, depth):
    short = dict(SHORT, norm_eval=False)
    ours = net(depth, conv2=dict(conv, init='identity'), **short)
    host = build('ResNet', depth=depth, base_channels=8, **short)
    pair(host, ours)
    paper = net(depth, conv2=conv, **short)
    pair(host, paper)
    with torch.no_grad():
        for mode in (False, True):
            assert distance(run(ours, mode), run(host, mode)) < 1e-5
        assert distance(run(paper), run(host)) > 0.05


# a bias before a norm in training mode: the authors' code has it, the norm takes it away
# a bias in front of a softmax or a norm: its gradient is rounding noise, or nothing
NO_GRADIENT = {'BAM': ('channel.0.bias',), 'GlobalContext': ('conv_mask.bias',)}


@pytest.mark.parametrize('name', [*gates(), 'AWConv2d'])
def test_identity_start_learns(name):
    """Gradients reach every gamma at once and every other new parameter after a step."""
    if name == 'AWConv2d':
        ours = net(18, 16, conv2=dict(AW, init='identity'), **SHORT)
    else:
        ours = net(18, 16, attention=identity_rules(name, 18, (0,)), **SHORT)
    ours.init_weights()
    shake(ours, spare=ours.added_parameters())
    ours.train()
    new = ours.added_parameters()
    gammas = [key for key in new if key.endswith('gamma')]
    assert gammas
    optimizer = torch.optim.SGD(new.values(), lr=1e-2)
    loss(ours(image())).backward()
    assert all(new[key].grad.abs() > 0 for key in gammas)
    torch.nn.utils.clip_grad_norm_(new.values(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    loss(ours(image())).backward()
    asleep = {key for key, p in new.items() if not p.grad.abs().max() > 0}
    assert {key for key in asleep if not key.endswith(NO_GRADIENT.get(name, ()))} == set()


# ---------------------------------------------------------------- working conditions


@pytest.mark.parametrize('depth', [18, 50])
def test_checkpointing_changes_nothing(depth):
    positions = IN_BASIC if depth == 18 else IN_BOTTLENECK
    rules = [rule(position, 'CBAM') for position in positions]
    grads = []
    for with_cp in (False, True):
        model = shake(net(depth, with_cp=with_cp, attention=rules, conv2=AW, **SHORT)).train()
        x = image().requires_grad_()
        outs = model(x)
        loss(outs).backward()
        grads.append([x.grad, *(p.grad for p in model.parameters())])
    assert all(grad is not None for grad in grads[0])
    for plain, checkpointed in zip(*grads):
        torch.testing.assert_close(checkpointed, plain)


@pytest.fixture(params=[18, 50])
def everywhere(request):
    positions = IN_BASIC if request.param == 18 else IN_BOTTLENECK
    rules = [rule(position, 'CBAM', stages=(1,)) for position in positions]
    options = dict(attention=rules, conv2=AW, conv2_stages=(0,), basic_convs=(2,))
    return shake(net(request.param, **options, **SHORT)).eval()


def test_copy_and_pickle(everywhere):
    outs = everywhere(image())
    file = io.BytesIO()
    torch.save(everywhere, file)
    file.seek(0)
    copies = [
        copy.deepcopy(everywhere),
        pickle.loads(pickle.dumps(everywhere)),
        torch.load(file, weights_only=False),
    ]
    for model in copies:
        assert distance(model(image()), outs) == 0
        with torch.no_grad():
            for parameter in model.added_parameters().values():
                parameter.add_(0.5)  # must change the copy only, and must change it
        assert distance(model(image()), outs) > 1e-6
    assert distance(everywhere(image()), outs) == 0


def test_every_gate_of_a_copy_runs(everywhere):
    """A hook that still held the original's gate would run that one."""
    model = copy.deepcopy(everywhere).train()
    loss(model(image())).backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    assert all(p.grad is None for p in everywhere.parameters())


@pytest.mark.filterwarnings('ignore::torch.jit.TracerWarning')
def test_trace(everywhere):
    traced = torch.jit.trace(everywhere, image())
    other = image(batch=3, size=(96, 64), seed=5)
    with torch.no_grad():
        assert distance(traced(other), everywhere(other)) < 1e-5


@pytest.mark.skipif(HOOKS_BREAK_GRAPHS, reason='torch 2.1 captures no hook made by partial')
@pytest.mark.parametrize('depth', [18, 50])
def test_whole_graph_is_captured(depth):
    positions = IN_BASIC if depth == 18 else IN_BOTTLENECK
    rules = [rule(position, stages=(0,)) for position in positions]
    stages = dict(num_stages=1, strides=(1,), dilations=(1,), out_indices=(0,))
    model = shake(net(depth, attention=rules, **stages)).eval()
    compiled = torch.compile(model, backend='eager', fullgraph=True)
    with torch.no_grad():
        assert distance(compiled(image()), model(image())) < 1e-5


def test_exchanged_norms_keep_the_gates(everywhere):
    """sync_bn replaces norm modules: a gate hooked to one would silently stop to run."""
    outs = everywhere(image())
    synced = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(everywhere))
    synced.train(everywhere.training)  # torch 2.1 does not hand the mode on
    assert any(isinstance(module, nn.SyncBatchNorm) for module in synced.modules())
    assert distance(synced(image()), outs) < 1e-5


def test_every_parameter_gets_a_gradient(everywhere):
    everywhere.train()
    loss(everywhere(image())).backward()
    assert [key for key, p in everywhere.named_parameters() if p.grad is None] == []


def test_classes():
    assert isinstance(net(), AttentionResNet)
    assert isinstance(net(attention=[rule('after_add')]).layer1[0].se, SE)
