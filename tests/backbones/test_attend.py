import copy
import io
import pickle

import pytest
import torch
from mmdet.models.backbones import SSDVGG, ResNet
from mmdet.models.dense_heads import SSDHead
from mmdet.registry import MODELS
from torch import nn

from mmattn.backbones import Attend
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

AW = dict(type='mmattn.AWConv2d')
NARROW = dict(deepen_factor=0.33, widen_factor=0.25)
MAPS = [(8, 32, 40), (16, 16, 20), (32, 8, 10)]
SSD_NECK = dict(
    in_channels=(16, 32),
    out_channels=(16, 32, 32, 16, 16, 16),
    level_strides=(2, 2, 1, 1),
    level_paddings=(1, 1, 0, 0),
)

# host: options, modules a gate goes after, convolutions to exchange (None: it has none to speak
# of), a prefix that frozen_stages=1 freezes
HOSTS = {
    'SSDVGG': (dict(depth=16), r'features\.(3|8)', r'features\.(0|31)', None),
    'CSPDarknet': (NARROW, r'stage[24]', r'stage\d\.0\.conv', 'stage1.'),
    'CSPNeXt': (NARROW, r'stage\d\.0', r'stage\d\..*depthwise_conv\.conv', 'stage1.'),
    'MobileNetV2': (dict(widen_factor=0.5), r'layer[357]', r'.*expand_conv\.conv', 'layer1.'),
    'RegNet': (dict(arch='regnetx_400mf'), r'layer2\.\d+', r'layer\d\.0\.conv2', 'layer1.'),
    'Res2Net': (dict(depth=50, base_channels=16), r'layer3', r'layer4\.\d+\.convs\.\d', 'layer1.'),
    'ResNet': (dict(depth=18, base_channels=8), r'layer\d\.1', r'layer[12].*\.conv2', 'layer1.'),
    'SwinTransformer': (dict(embed_dims=24, depths=(1, 1, 1, 1)), None, None, 'stages.0.'),
    'PAFPN': (
        dict(in_channels=[8, 16, 32], out_channels=16, num_outs=4),
        r'lateral_convs\.\d',
        r'(fpn|pafpn)_convs\..*',
        None,
    ),
    'CSPNeXtPAFPN': (
        dict(in_channels=[8, 16, 32], out_channels=16, num_csp_blocks=1),
        r'out_convs\.\d',
        r'.*main_conv\.conv',
        None,
    ),
    'SSDNeck': (SSD_NECK, r'extra_layers\.0', r'extra_layers\..*', None),
}
NECKS = ('PAFPN', 'CSPNeXtPAFPN', 'SSDNeck')


def attend(host, attention, **options):
    torch.manual_seed(0)
    return build('mmattn.Attend', wrapped=host, attention=attention, **options)


def rules(host, cfg, init='identity'):
    """Every kind of rule the host allows."""
    _, after, replace, _ = HOSTS[host]
    found = [dict(gate=cfg, levels=(0, 1))]
    if after:
        found.append(dict(gate=cfg, after=after))
    if replace:
        found.append(dict(conv=dict(AW, init=init), replace=replace))
    return found


def feed(host, batch=2):
    if host not in NECKS:
        return image(batch)
    sizes = [(16, 38, 40), (32, 19, 20)] if host == 'SSDNeck' else MAPS
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.randn(batch, *size, generator=generator) for size in sizes)


# ---------------------------------------------------------------- every host


@pytest.fixture
def float64():
    """Train-mode norms over two small maps raise float32's rounding above 1e-5."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize('host', HOSTS)
def test_identity_start(host, float64):
    """Same outputs, same names; gates on levels and inside, another convolution."""
    options, after, replace, _ = HOSTS[host]
    plain = build(host, **options)
    plain.init_weights()  # the host leaves a scale of SSD's neck as it was in memory
    ours = attend(host, rules(host, gate('CBAM', init='identity')), **options)
    ours.init_weights()
    missing = pair(plain, ours)
    assert missing == missing_keys(ours, plain)
    new = {key for key, _ in ours.named_parameters()} - {k for k, _ in plain.named_parameters()}
    assert new == set(ours.added_parameters())
    assert sum(isinstance(m, CBAM) for m in ours.modules()) > (2 if after else 1)
    assert any(isinstance(m, AWConv2d) for m in ours.modules()) == bool(replace)
    with torch.no_grad():
        for mode in (False, True):
            torch.manual_seed(4)  # stochastic depth
            expected = run(plain, mode, feed(host))
            torch.manual_seed(4)
            assert distance(run(ours, mode, feed(host)), expected) < 1e-5


@pytest.mark.parametrize('host', HOSTS)
def test_paper_start_changes_the_outputs_and_learns(host):
    options = HOSTS[host][0]
    plain = build(host, **options)
    plain.init_weights()
    ours = attend(host, rules(host, gate('SE', reduction=2), 'paper'), **options)
    pair(plain, ours)
    with torch.no_grad():
        assert distance(run(ours, False, feed(host)), run(plain, False, feed(host))) > 0.05
    loss(run(ours, True, feed(host))).backward()
    assert [key for key, p in ours.added_parameters().items() if p.grad is None] == []


@pytest.mark.parametrize('host', [host for host in HOSTS if HOSTS[host][3]])
def test_frozen_stages_and_norm_eval_spare_what_is_new(host):
    options, _, _, prefix = HOSTS[host]
    if host != 'SwinTransformer':
        options = dict(options, norm_eval=True)
    every = dict(conv=AW, replace=r'(?!patch_embed|stem|conv1).*') if HOSTS[host][2] else None
    attention = [dict(gate=gate('CBAM')), *([every] if every else [])]
    ours = attend(host, attention, frozen_stages=1, **options)
    ours.train()
    new = ours.added_parameters()
    frozen = {key for key, p in ours.named_parameters() if not p.requires_grad}
    assert any(key.startswith(prefix) for key in frozen)
    assert not frozen & set(new)
    norms = {key: m for key, m in ours.named_modules() if isinstance(m, nn.BatchNorm2d)}
    ours_new = {key for key in norms if key.startswith('attend.') or f'{key}.weight' in new}
    assert ours_new
    assert {key for key in norms if norms[key].training} == ours_new
    asleep = attend(host, attention, frozen_stages=1, attention_norm_eval=True, **options)
    asleep.train()
    assert not any(m.training for m in asleep.modules() if isinstance(m, nn.BatchNorm2d))


@pytest.mark.parametrize('host', ['SSDVGG', 'CSPDarknet', 'SwinTransformer', 'PAFPN'])
def test_copy_and_pickle(host):
    ours = attend(host, rules(host, gate(), 'paper'), **HOSTS[host][0]).eval()
    file = io.BytesIO()
    torch.save(ours, file)
    file.seek(0)
    with torch.no_grad():
        outs = ours(feed(host))
        for model in (
            copy.deepcopy(ours),
            pickle.loads(pickle.dumps(ours)),
            torch.load(file, weights_only=False),
        ):
            assert type(model) is type(ours)
            assert distance(model(feed(host)), outs) == 0
            for parameter in model.added_parameters().values():
                parameter.add_(0.5)
            assert distance(model(feed(host)), outs) > 1e-6  # its own gates run
        assert distance(ours(feed(host)), outs) == 0


def traceable():
    cfg = dict(depth=18, base_channels=8, num_stages=2, strides=(1, 2), dilations=(1, 1))
    attention = [dict(gate=gate()), dict(gate=gate(), after=r'layer1\.\d')]
    attention.append(dict(conv=AW, replace=r'layer2\.0\.conv1'))
    return attend('ResNet', attention, out_indices=(0, 1), **cfg)


@pytest.mark.filterwarnings('ignore::torch.jit.TracerWarning')
def test_trace():
    model = traceable().eval()
    with torch.no_grad():
        outs = model(image())
        assert distance(torch.jit.trace(model, image())(image()), outs) < 1e-5


@pytest.mark.skipif(HOOKS_BREAK_GRAPHS, reason='torch 2.1 captures no hook made by partial')
def test_whole_graph_is_captured():
    model = traceable().eval()
    with torch.no_grad():
        compiled = torch.compile(model, backend='eager', fullgraph=True)
        assert distance(compiled(image()), model(image())) < 1e-5


@pytest.mark.parametrize('name', gates())
def test_identity_start_of_every_gate(name):
    options = dict(depth=18, base_channels=16, num_stages=2, strides=(1, 2), dilations=(1, 1))
    options['out_indices'] = (0, 1)
    cfg = any_gate(name, init='identity')
    attention = [dict(gate=cfg), dict(gate=cfg, after=r'layer\d\.\d')]
    plain, ours = build('ResNet', **options), attend('ResNet', attention, **options)
    ours.init_weights()
    pair(plain, ours)
    with torch.no_grad():
        for mode in (False, True):
            assert distance(run(ours, mode), run(plain, mode)) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize('name', gates())
@pytest.mark.parametrize(
    'host, options',
    [
        ('SSDVGG', dict(depth=16)),
        ('CSPDarknet', dict(deepen_factor=0.33, widen_factor=0.5)),
        ('CSPNeXt', dict(deepen_factor=0.33, widen_factor=0.5, channel_attention=True)),
        ('MobileNetV2', dict()),
        ('RegNet', dict(arch='regnetx_3.2gf')),
        ('Res2Net', dict(depth=101, scales=4, base_width=26)),
        ('SwinTransformer', dict(drop_path_rate=0.2)),
        ('PAFPN', dict(in_channels=[256, 512, 1024, 2048], out_channels=256, num_outs=5)),
    ],
    ids=lambda value: value if isinstance(value, str) else '',
)
def test_identity_start_at_stock_width(host, options, name):
    """Widths as in the host's own configs (SSD300, YOLOX-s, RTMDet-s, ..., Swin-T)."""
    plain = build(host, **options)
    cfg = any_gate(name, init='identity')
    if (host, name) == ('MobileNetV2', 'FcaNet'):
        with pytest.raises(ValueError, match='in_channels must be divisible by 16, got 24'):
            attend(host, rules(host, cfg), **options)
        return
    ours = attend(host, rules(host, cfg), **options)
    pair(plain, ours)
    torch.manual_seed(2)
    sizes = [(256, 32, 40), (512, 16, 20), (1024, 8, 10), (2048, 4, 5)]
    x = tuple(torch.randn(2, *s) for s in sizes) if host in NECKS else image(size=(96, 128))
    with torch.no_grad():
        for mode in (False, True):
            torch.manual_seed(4)
            expected = run(plain, mode, x)
            torch.manual_seed(4)
            assert distance(run(ours, mode, x), expected) < 1e-5


# ---------------------------------------------------------------- what is computed where


class Double(nn.Module):
    _abbr_ = 'twice'

    def __init__(self, in_channels):
        super().__init__()
        self.in_channels = in_channels

    def forward(self, x):
        return 2 * x + 1


class Flat(nn.Module):
    """Not a gate: one channel comes out."""

    def __init__(self, in_channels):
        super().__init__()

    def forward(self, x):
        return x.mean(1, keepdim=True)


class FixedSize(nn.Module):
    """A network that takes 32 x 32 images only, and gives one map."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.bias = nn.Parameter(torch.zeros(32, 32))

    def forward(self, x):
        return self.conv(x) + self.bias


@pytest.fixture(autouse=True, scope='module')
def _own_modules():
    for cls in (Double, Flat):
        MMATTN_MODELS.register_module(module=cls)
    yield
    for cls in (Double, Flat):
        MMATTN_MODELS.module_dict.pop(cls.__name__)


def test_a_gate_on_a_level_is_seen_outside_only():
    plain = build('SSDVGG', depth=16)
    ours = attend('SSDVGG', [dict(gate=gate('Double'), levels=[0])], depth=16)
    pair(plain, ours)
    with torch.no_grad():
        first, second = run(plain)
        outs = run(ours)
    torch.testing.assert_close(outs[0], 2 * first + 1)
    torch.testing.assert_close(outs[1], second)
    assert type(outs) is tuple


def test_a_gate_behind_a_module_is_seen_by_what_follows():
    plain = build('SSDVGG', depth=16)
    attention = [dict(gate=gate('Double'), after=[r'features\.3', r'features\.22'])]
    ours = attend('SSDVGG', attention, depth=16).eval()
    pair(plain, ours)
    with torch.no_grad():
        x, expected = image(), []
        for i, layer in enumerate(plain.features):
            x = layer(x)
            if i in (3, 22):
                x = 2 * x + 1
            if i in (22, 34):
                expected.append(x)
        for out, value in zip(ours(image()), expected):
            torch.testing.assert_close(out, value)
    assert set(ours.attend) == {'features_3_twice', 'features_22_twice'}
    assert [g.in_channels for g in ours.attend.values()] == [64, 512]


def test_several_gates_run_in_the_order_of_the_rules():
    attention = [dict(gate=gate('Double'), levels=(0,)), dict(gate=gate(), levels=(0,))]
    ours = attend('ResNet', attention, depth=18, base_channels=8).eval()
    plain = build('ResNet', depth=18, base_channels=8)
    pair(plain, ours)
    with torch.no_grad():
        expected = ours.attend['level0_se'](2 * run(plain)[0] + 1)
        torch.testing.assert_close(ours(image())[0], expected)
    twice = attend('ResNet', [dict(gate=gate())] * 2, depth=18, base_channels=8)
    assert set(twice.attend) == {f'level{i}_se{n}' for i in range(4) for n in ('', '_2')}


def test_a_conv_keeps_its_arguments_and_weights():
    options = dict(depth=50, base_channels=16)
    plain = build('Res2Net', **options)
    torch.manual_seed(0)
    before = {k: v.clone() for k, v in build('Res2Net', **options).state_dict().items()}
    ours = attend('Res2Net', [dict(conv=AW, replace=r'layer\d\.\d\..*')], **options)
    exchanged = {k: m for k, m in ours.named_modules() if isinstance(m, AWConv2d)}
    assert len(exchanged) > 50
    for name, conv in exchanged.items():
        host = plain.get_submodule(name)
        for argument in ('in_channels', 'out_channels', 'kernel_size', 'stride', 'padding'):
            assert getattr(conv, argument) == getattr(host, argument)
        torch.testing.assert_close(conv.weight, before[f'{name}.weight'], rtol=0, atol=0)
    assert type(ours.stem[0]) is nn.Conv2d


def test_bias_dilation_and_groups_are_kept():
    vgg = attend('SSDVGG', [dict(conv=AW, replace=r'features\.31')], depth=16)
    assert vgg.features[31].bias is not None
    assert vgg.features[31].dilation == vgg.features[31].padding == (6, 6)
    depthwise = [dict(conv=AW, replace=r'.*depthwise_conv\.conv')]
    for module in attend('CSPNeXt', depthwise, **NARROW).modules():
        if isinstance(module, AWConv2d):
            assert module.groups == module.in_channels > 1


def test_the_first_rule_that_matches_takes_a_convolution():
    wide = dict(AW, reduction=2)
    attention = [dict(conv=wide, replace=r'layer1\..*conv2'), dict(conv=AW, replace=r'.*conv2')]
    ours = attend('ResNet', attention, depth=18, base_channels=32)
    hidden = {
        key: next(m for m in conv.modules() if type(m) is nn.Conv2d).out_channels
        for key, conv in ours.named_modules()
        if isinstance(conv, AWConv2d)
    }
    assert {width for key, width in hidden.items() if key.startswith('layer1')} == {16}
    assert {width for key, width in hidden.items() if key.startswith('layer2')} == {4}


def test_frozen_weights_stay_frozen_in_the_new_convolution():
    cfg = dict(depth=18, base_channels=8, frozen_stages=1)
    ours = attend('ResNet', [dict(conv=AW, replace='layer1.*')], **cfg)
    assert not ours.layer1[0].conv1.weight.requires_grad
    assert all(p.requires_grad for p in ours.added_parameters().values())


def test_a_network_that_gives_one_map():
    MODELS.register_module(name='FixedSize', module=FixedSize)
    try:
        with pytest.raises(ValueError, match=r'sample must be .* got \(3, 64, 64\)'):
            attend('FixedSize', [dict(gate=gate('Double'))])
        ours = attend('FixedSize', [dict(gate=gate('Double'))], sample=(3, 32, 32))
    finally:
        MODELS.module_dict.pop('FixedSize')
    x = torch.randn(1, 3, 32, 32)
    out = ours(x)
    assert ours.attend['level0_twice'].in_channels == 4
    torch.testing.assert_close(out, 2 * (ours.conv(x) + ours.bias) + 1)


def test_a_trial_run_leaves_no_trace():
    cfg = dict(depth=18, base_channels=8, norm_eval=False)
    ours = attend('ResNet', [dict(gate=gate('CBAM'))], **cfg)
    assert all(module.training for module in ours.modules())
    for key, value in ours.state_dict().items():
        if key.endswith('running_mean'):
            assert value.abs().max() == 0
    assert all(len(module._forward_hooks) == 0 for module in ours.modules())


# ---------------------------------------------------------------- what it is


def test_it_is_the_wrapped_network():
    ours = attend('SSDVGG', [dict(gate=gate(), after=r'features\.3')], depth=16)
    assert isinstance(ours, SSDVGG) and isinstance(ours, Attend)
    assert ours.out_feature_indices == (22, 34)
    assert not any(key.startswith(('inner', 'wrapped')) for key in ours.state_dict())
    assert ours.train() is ours


def test_a_whole_config_or_its_type():
    cfg = dict(type='ResNet', depth=18, base_channels=8)
    whole = build('mmattn.Attend', wrapped=cfg, attention=[dict(gate=gate())])
    flat = attend('ResNet', [dict(gate=gate())], depth=18, base_channels=8)
    assert list(whole.state_dict()) == list(flat.state_dict())
    assert isinstance(whole, ResNet)
    assert cfg == dict(type='ResNet', depth=18, base_channels=8)
    assert list(build('mmattn.Attend', wrapped=cfg).state_dict()) == list(
        build(**cfg).state_dict()
    )


@pytest.mark.parametrize('host', ['SSDVGG', 'CSPDarknet', 'MobileNetV2', 'ResNet', 'PAFPN'])
def test_initial_values_survive_the_host(host):
    after = HOSTS[host][1]
    attention = [dict(gate=gate('CBAM')), dict(gate=gate('CBAM'), after=after)]
    ours = attend(host, attention, **HOSTS[host][0])
    cbams = list(ours.attend.values())
    for cbam in cbams:
        nn.init.constant_(cbam.mlp[0].weight, 7.0)
    ours.init_weights()
    for cbam in cbams:
        assert cbam.spatial[1].weight.item() == 0  # the host sets every norm to 1
        bound = cbam.mlp[0].in_channels ** -0.5
        assert 0.5 * bound < cbam.mlp[0].weight.abs().max() <= bound


def test_pretrained_checkpoints(tmp_path):
    """The plain one gives the host's values, its own one gives the gates' too."""
    options = dict(depth=18, base_channels=8)
    attention = [dict(gate=gate('CBAM')), dict(conv=AW, replace=r'.*conv2')]
    plain = shake(build('ResNet', **options))
    first = shake(attend('ResNet', attention, **options))
    for name, source in (('plain', plain), ('own', first)):
        torch.save(source.state_dict(), tmp_path / f'{name}.pth')
        init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / f'{name}.pth'))
        model = attend('ResNet', attention, init_cfg=init_cfg, **options)
        model.init_weights()
        for key, value in source.state_dict().items():
            torch.testing.assert_close(model.state_dict()[key], value, rtol=0, atol=0)


def test_a_head():
    """SSD's prediction convolutions; loss and prediction are the host's."""
    anchors = dict(strides=[8, 16, 32, 64, 100, 300], basesize_ratio_range=(0.15, 0.9))
    anchors['ratios'] = [[2], [2, 3], [2, 3], [2, 3], [2], [2]]
    anchors.update(type='SSDAnchorGenerator', scale_major=False, input_size=300)
    options = dict(num_classes=3, in_channels=(8, 16, 16, 8, 8, 8), anchor_generator=anchors)
    attention = [dict(conv=dict(AW, init='identity'), replace=r'(cls|reg)_convs\..*')]
    attention.append(dict(gate=gate(init='identity'), after=r'cls_convs\.\d'))
    plain, ours = build('SSDHead', **options), attend('SSDHead', attention, **options)
    assert isinstance(ours, SSDHead)
    assert sum(isinstance(m, AWConv2d) for m in ours.modules()) == 12
    assert sum(isinstance(m, SE) for m in ours.modules()) == 6
    pair(plain, ours)
    maps = tuple(torch.randn(2, c, 32 >> i, 32 >> i) for i, c in enumerate(options['in_channels']))
    for outs, expected in zip(ours.eval()(maps), plain.eval()(maps)):
        assert distance(outs, expected) < 1e-5


def test_a_head_with_one_width():
    options = dict(num_classes=3, in_channels=16, feat_channels=16, stacked_convs=1)
    attention = [dict(gate=gate(), after=r'cls_convs\.0')]
    ours = attend('RetinaHead', attention, **options)
    assert set(ours.attend) == {'cls_convs_0_se'}


# ---------------------------------------------------------------- bad input


SMALL = dict(depth=18, base_channels=8)


@pytest.mark.parametrize(
    'attention, message',
    [
        (
            [dict(gate=gate(), levels=(4,))],
            r'levels must be a list of indices from 0 to 3 for ResNet with these options, '
            r'got \(4,\)',
        ),
        ([dict(gate=gate(), levels=(-1,))], r'levels must be .* from 0 to 3 .* got \(-1,\)'),
        ([dict(gate=gate(), levels=0)], r'levels must be a list of .*, got 0'),
        ([dict(gate=gate(), levels=())], r'levels must be a list of .*, got \(\)'),
        ([dict(gate=gate(), levels=(True, False))], r'levels must .*, got \(True, False\)'),
        (
            [dict(gate=AW, levels=(0,))],
            r"gate must be a gate, got the convolution 'mmattn\.AWConv2d': it goes into conv2",
        ),
        (
            [dict(gate=dict(type='mmattn.SE', in_channels=8), levels=(0,))],
            "gate must not set in_channels, its place does, got 8 in a 'mmattn.SE'",
        ),
        (
            [dict(conv=dict(type='mmattn.SE'), replace='layer1.*')],
            "conv must be a convolution, got 'mmattn.SE': gates go into gate of a rule",
        ),
        (
            [dict(conv=AW, replace='layer5.*')],
            r"replace must match the name of a convolution .* got 'layer5\.\*'; "
            r"there are .*'layer\d\.\d\.conv\d'",
        ),
        (
            [dict(conv=AW, replace='layer1.*'), dict(conv=AW, replace=r'layer1\.0\.conv1')],
            'replace must match the name of a convolution that no earlier rule took',
        ),
        (
            [dict(gate=gate(), after='layer1.9')],
            r"after must match the name of a module, got 'layer1\.9'; there are .*'layer1\.\d'",
        ),
        (
            [dict(gate=gate(), after=r'layer1\.0\.bn1')],
            r"after must not name a norm, got 'layer1\.0\.bn1' \(BatchNorm2d\)",
        ),
        (
            [dict(gate=gate(), after='(')],
            r"after and replace must be regular expressions, got \['\('\]: missing \)",
        ),
        (
            [dict(gate=gate('Flat'), levels=(0,))],
            r"gate must keep the shape of its input, got 'mmattn\.Flat', which turns "
            r'\(1, 8, 8, 8\) into \(1, 1, 8, 8\)',
        ),
        ([dict(gate=gate(), level=0)], r"takes \('gate', 'levels'\), got 'level'"),
        (
            [dict(gate=gate(), after='x', levels=0)],
            r"takes \('gate', 'after', 'position'\), got 'levels'",
        ),
        ([dict(conv=AW)], "a rule of attention needs 'replace', got"),
        ([dict(levels=(0,))], "a rule of attention needs 'gate', got"),
    ],
)
def test_errors(attention, message):
    with pytest.raises(ValueError, match=message):
        attend('ResNet', attention, **SMALL)


def test_a_gate_needs_maps():
    options = HOSTS['SwinTransformer'][0]
    message = r'after must name a module that gives one \(N, C, H, W\) map, got .* which gives '
    with pytest.raises(ValueError, match=rf"{message}\['a \(1, \d+, 24\) tensor'\]"):
        attend(
            'SwinTransformer', [dict(gate=gate(), after=r'stages\.0\.blocks\.0\.ffn')], **options
        )
    with pytest.raises(ValueError, match=f'{message}nothing in the trial run'):
        attend('SwinTransformer', [dict(gate=gate(), after='stages')], **options)
    with pytest.raises(ValueError, match=r'levels needs .* got a list from RetinaHead'):
        build(
            'mmattn.Attend',
            wrapped=dict(type='RetinaHead', num_classes=3, in_channels=16),
            attention=[dict(gate=gate(), levels=(0,))],
            sample=[(16, 8, 8)],
        )


def test_wrapped():
    with pytest.raises(ValueError, match="wrapped holds 'depth' already, got another"):
        build('mmattn.Attend', wrapped=dict(type='ResNet', depth=18), depth=34)
    inner = dict(type='mmattn.Attend', wrapped='ResNet', **SMALL)
    with pytest.raises(ValueError, match='wrapped must be a plain network: put all rules'):
        build('mmattn.Attend', wrapped=inner)
    with pytest.raises(TypeError, match=r"attention\[0\] must be a dict, got 'mmattn.SE'"):
        attend('ResNet', ['mmattn.SE'], **SMALL)
    with pytest.raises(TypeError, match=r"attention must be a list of dicts, got \{'gate'"):
        attend('ResNet', dict(gate=gate()), **SMALL)


@pytest.mark.parametrize(
    'host, after, position',
    [
        (dict(type='RegNet', arch='regnetx_400mf'), r'layer\d\.\d+', 'after_conv3'),
        (dict(type='Res2Net', depth=50, scales=4, base_width=26), r'layer1\.\d', 'after_conv3'),
        (dict(type='ResNet', depth=18, base_channels=8), r'layer\d\.\d', 'after_conv2'),
        (dict(type='mmattn.TDResNet', depth=50, base_channels=8), r'layer4\.\d', 'after_conv3'),
    ],
    ids=lambda value: value['type'] if isinstance(value, dict) else '',
)
def test_a_position_inside_the_blocks_of_another_network(host, after, position):
    rule = dict(gate=dict(type='mmattn.SE', init='identity'), after=after, position=position)
    net = MODELS.build(dict(type='mmattn.Attend', wrapped=host, attention=[rule]))
    plain = MODELS.build(host)
    net.load_state_dict(plain.state_dict(), strict=False)
    net.eval(), plain.eval()
    x = torch.rand(1, 3, 64, 64)
    for ours, theirs in zip(net(x), plain(x), strict=True):
        torch.testing.assert_close(ours, theirs)
    added = [m for m in net.modules() if type(m).__name__ == 'SE']
    assert added and all(name.endswith('.se') for name in _names_of(net, 'SE'))
    for one in added:
        one.gamma.data.fill_(1.0)
    assert not torch.equal(net(x)[-1], plain(x)[-1])
    again = pickle.loads(pickle.dumps(net))
    torch.testing.assert_close(again(x)[-1], net(x)[-1])


def _names_of(net, kind):
    return [name for name, module in net.named_modules() if type(module).__name__ == kind]


def test_a_position_that_a_block_lacks_is_named():
    rule = dict(gate=dict(type='mmattn.SE'), after=r'layer1\.0', position='after_conv2')
    cfg = dict(type='mmattn.Attend', wrapped='Res2Net', depth=50, attention=[rule])
    with pytest.raises(ValueError, match="which has 'after_conv1', 'after_conv3', 'after_add'"):
        MODELS.build(cfg)
    cfg = dict(type='mmattn.Attend', wrapped='SSDVGG', depth=16, attention=[
        dict(gate=dict(type='mmattn.SE'), after=r'features\.3', position='after_add')
    ])  # fmt: skip
    with pytest.raises(ValueError, match='is no residual block'):
        MODELS.build(cfg)


def test_around_a_module_without_parameters():
    @MMATTN_MODELS.register_module()
    class ToyPool(nn.Module):
        def forward(self, x):
            return nn.functional.max_pool2d(x, 2)

    try:
        net = attend('mmattn.ToyPool', [dict(gate=gate(reduction=1))])
    finally:
        MMATTN_MODELS.module_dict.pop('ToyPool')
    out = net(torch.randn(2, 3, 8, 8))
    assert out.shape == (2, 3, 4, 4)
    out.sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())
    assert all(name.startswith('attend.level0_se') for name in net.state_dict())
