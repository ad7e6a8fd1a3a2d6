"""Score maps: values by hand, a slow reference, torchcam, and everything around them."""

from collections import namedtuple
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from mmattn.localization.cam import METHODS, ScoreMaps
from mmattn.localization.layouts import find_layouts
from tests.localization.nets import Recurrent, Select, gap_net, mlp_net
from tests.reference.cam_maps import slow_map

GRADIENT_METHODS = [m for m in METHODS if m != 'cam']


def keeper(kept):
    """A hook that collects outputs with their gradients."""

    def keep(module, inputs, output):
        output.retain_grad()
        kept.append(output)

    return keep


def flat_net():
    """Activation = the input's first two channels; gradient = the linear layer's weights."""
    net = nn.Sequential(Select(2), nn.Flatten(), nn.Linear(8, 2))
    weight = torch.tensor([[1, 0, 0, 1, -2, 2, 0, 0], [0, 0, 0, 0, 0, 0, 0, 1]])
    net[2].weight.data.copy_(weight)
    x = torch.tensor([[[1, 2], [3, 4]], [[1, 1], [1, 0]], [[9, 9], [9, 9]]])
    return net, x[None].float()


@pytest.mark.parametrize(
    ('method', 'expected'),
    [
        # channel 1: A = 1 2 3 4, g = 1 0 0 1; channel 2: A = 1 1 1 0, g = -2 2 0 0
        ('gradcam', [[0.5, 1.0], [1.5, 2.0]]),  # means of g: 1/2 and 0
        ('hirescam', [[0.0, 2.0], [0.0, 4.0]]),  # 1 - 2 is negative
        ('layercam', [[1.0, 2.0], [0.0, 4.0]]),
        # alpha: 1 / (2 + 10) twice; 4 / (8 + 3 * 8) with g = 2
        ('gradcam++', [[1 / 6 + 1 / 4, 2 / 6 + 1 / 4], [3 / 6 + 1 / 4, 4 / 6]]),
    ],
)
def test_values_by_hand(method, expected):
    net, x = flat_net()
    with ScoreMaps(net, method, target='0') as maps:
        out = maps(x, torch.tensor([0]))
    assert not maps.analytic
    torch.testing.assert_close(out.maps[0, 0], torch.tensor(expected))


def pooled_net():
    """Activation = the input's two channels, then pooling and a linear layer (1, -3), (-1, 0)."""
    net = nn.Sequential(Select(2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2))
    net[3].weight.data.copy_(torch.tensor([[1.0, -3.0], [-1.0, 0.0]]))
    x = torch.tensor([[[4.0, 8.0], [0.0, 4.0]], [[0.0, 1.0], [2.0, 1.0]], [[0.0] * 2] * 2])
    return net, x[None]


@pytest.mark.parametrize(
    ('method', 'expected'),
    [
        ('cam', [[4.0, 5.0], [-6.0, 1.0]]),  # signed, weights 1 and -3
        ('gradcam', [[1.0, 1.25], [0.0, 0.25]]),  # weights / 4, then ReLU
        ('hirescam', [[1.0, 1.25], [0.0, 0.25]]),
        ('layercam', [[1.0, 2.0], [0.0, 1.0]]),  # the negative weight is cut off
        # g = 1/4: alpha = 1/16 / (2/16 + 16/64) = 1/6, four positions: 4 * 1/6 * 1/4 = 1/6
        ('gradcam++', [[4 / 6, 8 / 6], [0.0, 4 / 6]]),
    ],
)
def test_closed_form_by_hand(method, expected):
    net, x = pooled_net()
    with ScoreMaps(net, method) as maps:
        out = maps(x, torch.tensor([[0]]))
        assert maps.analytic
        assert maps.names == ['0']
    torch.testing.assert_close(out.maps[0, 0], torch.tensor(expected))


@pytest.mark.parametrize('method', GRADIENT_METHODS)
@pytest.mark.parametrize(('make', 'layer'), [(gap_net, '4'), (mlp_net, '4'), (mlp_net, '0')])
def test_slow_reference(make, layer, method):
    net = make().double().eval()
    if make is gap_net:
        net[4].inplace = net[2].inplace = False  # the reference cannot read overwritten tensors
    x = torch.randn(3, 3, 24, 16, dtype=torch.float64)
    classes = torch.tensor([[0, 3, 5], [1, 1, 2], [4, 0, 3]])
    with ScoreMaps(net, method, target=layer) as maps:
        out = maps(x, classes)
        assert maps.analytic == (make is gap_net)
    torch.testing.assert_close(out.logits, net(x).detach())
    for n in range(3):
        for k in range(3):
            expected = slow_map(net, net[int(layer)], x[n], int(classes[n, k]), method)
            torch.testing.assert_close(out.maps[n, k], expected, atol=1e-10, rtol=1e-8)


def test_one_class_equals_many():
    net = mlp_net()
    x = torch.randn(2, 3, 20, 20)
    with ScoreMaps(net, 'gradcam') as maps:
        many = maps(x, lambda logits: logits.topk(4).indices)
        for k in range(4):
            one = maps(x, many.classes[:, k])
            torch.testing.assert_close(one.maps[:, 0], many.maps[:, k])


def test_cam_equals_gradcam_up_to_scale_where_positive():
    net = gap_net()
    x = torch.randn(2, 3, 32, 32)
    with ScoreMaps(net, 'cam') as maps:
        cam = maps(x, torch.tensor([1, 2])).maps
    with ScoreMaps(net, 'gradcam') as maps:
        grad = maps(x, torch.tensor([1, 2])).maps
    assert cam.min() < 0
    torch.testing.assert_close(cam.clamp(min=0) / 64, grad)


def test_cam_needs_pooling_and_linear():
    with (
        ScoreMaps(mlp_net(), 'cam') as maps,
        pytest.raises(ValueError, match='global average pooling and one linear layer'),
    ):
        maps(torch.randn(1, 3, 16, 16), torch.tensor([0]))


class AlmostPooled(nn.Module):
    """Global average pooling with one deviation each, which the closed form must notice."""

    def __init__(self, kind):
        super().__init__()
        torch.manual_seed(0)
        self.kind = kind
        self.conv = nn.Conv2d(3, 5, 3, 2, 1)
        self.norm = nn.LayerNorm(5)
        self.fc = nn.Linear(5, 3)

    def forward(self, x):
        x = self.conv(x)
        if self.kind == 'relu':
            x = x.relu()
        v = x.amax((2, 3)) if self.kind == 'max' else x.mean((2, 3))
        if self.kind == 'gem':
            v = x.clamp(min=1e-6).pow(3).mean((2, 3)).pow(1 / 3)
        v = self.norm(v) if self.kind == 'norm' else v
        out = self.fc(v)
        return out * 2 if self.kind == 'scaled' else out


@pytest.mark.parametrize('kind', ['relu', 'max', 'gem', 'norm', 'scaled'])
def test_closed_form_is_refused(kind):
    with ScoreMaps(AlmostPooled(kind), target='conv') as maps:
        maps(torch.randn(1, 3, 16, 16), torch.tensor([0]))
        assert not maps.analytic
    with ScoreMaps(AlmostPooled('plain'), target='conv') as maps:
        maps(torch.randn(1, 3, 16, 16), torch.tensor([0]))
        assert maps.analytic


@pytest.mark.parametrize('make', [gap_net, mlp_net])
def test_everything_is_restored(make):
    net = make().train()
    net[0].weight.requires_grad_(False)
    net[1].eval()
    before = [
        (m.training, len(m._forward_hooks), len(m._forward_pre_hooks)) for m in net.modules()
    ]
    grads = [p.requires_grad for p in net.parameters()]
    buffers = [b.clone() for b in net.buffers()]
    maps = ScoreMaps(net)
    with maps:
        maps(torch.randn(2, 3, 16, 16), torch.tensor([0, 1]))
        assert not any(m.training for m in net.modules())
    after = [(m.training, len(m._forward_hooks), len(m._forward_pre_hooks)) for m in net.modules()]
    assert after == before
    assert [p.requires_grad for p in net.parameters()] == grads
    assert all(p.grad is None for p in net.parameters())
    for old, new in zip(buffers, net.buffers()):
        torch.testing.assert_close(old, new)
    with pytest.raises(RuntimeError, match='with block'):
        maps(torch.randn(1, 3, 16, 16), torch.tensor([0]))


def test_hooks_go_even_if_the_forward_fails():
    class Broken(nn.Sequential):
        def forward(self, x):
            super().forward(x)
            raise RuntimeError('broken')

    net = Broken(nn.Conv2d(3, 4, 3))
    with pytest.raises(RuntimeError, match='broken'), ScoreMaps(net) as maps:
        maps(torch.randn(1, 3, 8, 8), torch.tensor([0]))
    assert not net[0]._forward_hooks
    assert not net[0]._forward_pre_hooks


def reference_maps(make, x, classes, **options):
    with ScoreMaps(make(), **options) as maps:
        return maps(x, classes).maps


def test_frozen_network_and_callers_without_gradient():
    x, classes = torch.randn(2, 3, 16, 16), torch.tensor([[0, 1], [2, 3]])
    expected = reference_maps(mlp_net, x, classes)
    frozen = mlp_net().requires_grad_(False)
    with ScoreMaps(frozen) as maps:
        torch.testing.assert_close(maps(x, classes).maps, expected)
        with torch.no_grad():
            torch.testing.assert_close(maps(x, classes).maps, expected)
        with torch.inference_mode():
            torch.testing.assert_close(maps(x.clone(), classes).maps, expected)
            assert torch.is_inference_mode_enabled()
    assert not any(p.requires_grad for p in frozen.parameters())


@pytest.mark.parametrize('method', GRADIENT_METHODS)
def test_backward_pass_equals_closed_form(method):
    x, classes = torch.randn(2, 3, 16, 16), torch.tensor([[0, 1], [2, 3]])
    expected = reference_maps(gap_net, x, classes, method=method)
    with ScoreMaps(gap_net(), method, closed_form=False) as maps:
        torch.testing.assert_close(maps(x, classes).maps, expected)
        assert not maps.analytic
    assert expected.max() > 0


@pytest.mark.parametrize('target', ['0', '3', '4'])
@pytest.mark.parametrize('cut', [5, 3, 1])
def test_parts_under_no_grad(target, cut):
    class Frozen(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = mlp_net()

        def forward(self, x):
            with torch.no_grad():
                x = self.net[:cut](x)
            with torch.no_grad():  # entered anew after an early target
                x = self.net[cut:5](x)
            return self.net[5:](x)

    x, classes = torch.randn(2, 3, 16, 16), torch.tensor([[0, 1], [2, 3]])
    expected = reference_maps(mlp_net, x, classes, target=target)
    with ScoreMaps(Frozen(), target=f'net.{target}') as maps:
        torch.testing.assert_close(maps(x, classes).maps, expected)
    assert expected.max() > 0


def test_in_place_layers_do_not_reach_the_map():
    plain, inplace = mlp_net(), mlp_net()
    for i in (2, 4):
        inplace[i].inplace = True
    x, classes = torch.randn(2, 3, 16, 16), torch.tensor([0, 1])
    with ScoreMaps(plain, 'hirescam', target='3') as maps:
        expected = maps(x, classes).maps
    with ScoreMaps(inplace, 'hirescam', target='3') as maps:
        torch.testing.assert_close(maps(x, classes).maps, expected)


Named = namedtuple('Named', 'other map')


@dataclass(frozen=True)
class Framed:
    map: torch.Tensor
    other: object = None


CONTAINERS = [
    pytest.param(lambda x: (None, x), lambda y: y[1], id='tuple'),
    pytest.param(lambda x: [x, 'text'], lambda y: y[0], id='list'),
    pytest.param(lambda x: Named(3, x), lambda y: y.map, id='namedtuple'),
    pytest.param(lambda x: {'map': x, 'other': 3}, lambda y: y['map'], id='dict'),
    pytest.param(Framed, lambda y: y.map, id='frozen-dataclass'),
]


@pytest.mark.parametrize(('pack', 'unpack'), CONTAINERS)
@pytest.mark.parametrize('make', [gap_net, mlp_net])
def test_a_map_inside_what_a_layer_returns(make, pack, unpack):
    class Packed(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = make()
            self.pack = Pack(self.net[4])

        def forward(self, x):
            found = self.pack(self.net[:4](x))
            assert type(found) is type(pack(x))
            return self.net[5:](unpack(found))

    class Pack(nn.Module):
        def __init__(self, layer):
            super().__init__()
            self.layer = layer

        def forward(self, x):
            return pack(self.layer(x))

    x, classes = torch.randn(2, 3, 16, 16), torch.tensor([[0, 1], [2, 3]])
    expected = reference_maps(make, x, classes, target='4')
    torch.testing.assert_close(reference_maps(Packed, x, classes, target='pack'), expected)
    assert expected.max() > 0


@pytest.mark.parametrize(('make', 'graph'), [(gap_net, 0), (mlp_net, 1)])
def test_one_forward_and_gradient_only_behind_the_target(make, graph):
    net = make()
    seen = []
    net[0].register_forward_hook(lambda m, i, o: seen.append(('stem', o.requires_grad)))
    net[-1].register_forward_hook(lambda m, i, o: seen.append(('head', o.requires_grad)))
    with ScoreMaps(net) as maps:
        maps(torch.randn(2, 3, 16, 16), torch.tensor([0, 1]))
        seen.clear()
        maps(torch.randn(2, 3, 16, 16), lambda logits: logits.topk(5).indices)
    assert seen == [('stem', False), ('head', bool(graph))]


def test_steps_of_a_recurrent_layer():
    net = Recurrent().double()
    x = torch.randn(2, 3, 12, 12, dtype=torch.float64)
    classes = torch.tensor([[0, 1], [2, 3]])
    kept = []
    handle = net.step.register_forward_hook(keeper(kept))
    expected = torch.zeros(3, 2, 2, 6, 6, dtype=torch.float64)
    for n in range(2):
        for k in range(2):
            kept.clear()
            net(x[n : n + 1])[0, classes[n, k]].backward()
            for t, out in enumerate(kept):
                weights = out.grad.mean((2, 3), keepdim=True)
                expected[t, n, k] = (weights * out.detach()).sum(1).clamp(min=0)[0]
    handle.remove()
    assert (expected[0] - expected[2]).abs().max() > 1e-6
    for steps, want in (('all', expected), ('last', expected[2]), ('mean', expected.mean(0))):
        with ScoreMaps(net, target='step', steps=steps) as maps:
            torch.testing.assert_close(maps(x, classes).maps, want)


class Counted(nn.Module):
    """Calls its convolution as often as it is told, and counts nothing itself."""

    def __init__(self, calls):
        super().__init__()
        torch.manual_seed(0)
        self.calls, self.step, self.head = calls, nn.Conv2d(3, 3, 3, 1, 1), nn.Linear(3, 4)

    def forward(self, x):
        for _ in range(self.calls):
            x = torch.tanh(self.step(x))
        return self.head(x.mean((2, 3)))


@pytest.mark.parametrize('later', [1, 2, 5])
def test_number_of_calls_may_change(later):
    x, classes = torch.randn(2, 3, 6, 6), torch.tensor([0, 1])
    with ScoreMaps(Counted(later), target='step') as maps:
        expected = maps(x, classes).maps
    net = Counted(3)
    with ScoreMaps(net, target='step') as maps:
        maps(x, classes)
        net.calls = later
        torch.testing.assert_close(maps(x, classes).maps, expected)


def test_only_the_last_step_asks_for_a_gradient(monkeypatch):
    asked, grad = [], torch.autograd.grad

    def spy(outputs, inputs, *args, **kwargs):
        asked.append(len(inputs))
        return grad(outputs, inputs, *args, **kwargs)

    with ScoreMaps(Counted(3), target='step') as maps:
        maps.prepare(torch.randn(1, 3, 6, 6))
        monkeypatch.setattr(torch.autograd, 'grad', spy)
        maps(torch.randn(2, 3, 6, 6), torch.tensor([0, 1]))
    assert asked == [1]


class Branching(torch.autograd.Function):
    """The identity; its backward looks at a value, which no batch of gradients allows."""

    @staticmethod
    def forward(ctx, x):
        return x * 1.0

    @staticmethod
    def backward(ctx, grad):
        return grad if bool(grad.abs().sum() > 0) else torch.zeros_like(grad)


def test_operators_without_a_batching_rule():
    class Odd(nn.Module):
        def forward(self, x):
            return Branching.apply(x)

    plain = mlp_net()
    x, classes = torch.randn(2, 3, 16, 16), torch.tensor([[0, 3], [5, 1]])
    odd = nn.Sequential(*plain[:5], Odd(), *plain[5:])
    with ScoreMaps(plain, target='4') as maps:
        expected = maps(x, classes).maps
    with ScoreMaps(odd, target='4') as maps:
        torch.testing.assert_close(maps(x, classes).maps, expected)


@pytest.mark.parametrize('make', [gap_net, mlp_net])
def test_half_precision_networks_give_single_precision_maps(make):
    x, classes = torch.randn(2, 3, 16, 16), torch.tensor([1, 2])
    with ScoreMaps(make(), target='4') as maps:
        expected = maps(x, classes).maps
    with ScoreMaps(make().bfloat16(), target='4') as maps:
        found = maps(x.bfloat16(), classes).maps
    assert found.dtype is torch.float32
    torch.testing.assert_close(found, expected, rtol=0.1, atol=0.1 * float(expected.max()))


def test_steps_of_different_sizes():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.act = nn.ReLU()
            self.a, self.b = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 2, 1)
            self.fc = nn.Linear(4, 3)

        def forward(self, x):
            return self.fc(self.act(self.b(self.act(self.a(x)))).mean((2, 3)))

    x = torch.randn(1, 3, 16, 16)
    with ScoreMaps(Shared(), target='act') as maps:
        assert maps(x, torch.tensor([0])).maps.shape == (1, 1, 4, 4)
        assert maps.analytic
    with (
        ScoreMaps(Shared(), target='act', steps='all') as maps,
        pytest.raises(ValueError, match="use steps='last'"),
    ):
        maps(x, torch.tensor([0]))


def test_several_layers_are_scaled_and_averaged():
    x, classes = torch.randn(1, 3, 16, 16), torch.tensor([0])
    fine = reference_maps(mlp_net, x, classes, target='2')
    coarse = reference_maps(mlp_net, x, classes, target='4')
    both = reference_maps(mlp_net, x, classes, target=['2', '4'])
    up = nn.functional.interpolate(coarse / coarse.max(), size=(8, 8), mode='bilinear')
    torch.testing.assert_close(both, (fine / fine.max() + up) / 2)


def test_target_by_name_module_and_pattern():
    net = mlp_net()
    x = torch.randn(1, 3, 16, 16)
    for target, names in (
        (None, ['4']),
        ('3', ['3']),
        (net[2], ['2']),
        ('[34]', ['3', '4']),
        (['0', net[4]], ['0', '4']),
    ):
        with ScoreMaps(net, target=target) as maps:
            assert maps.prepare(x).names == names


@pytest.mark.parametrize(
    ('target', 'message'),
    [
        ('layer9', r"no layer 'layer9'; candidates: .*4 \(4x4\)"),
        ('x*', r"no layer with a map matches 'x\*'; candidates: "),
        ('7', r"target layer '7' gives no spatial map .* candidates: "),
        (nn.Conv2d(1, 1, 1), 'Conv2d is no part of this network'),
    ],
)
def test_wrong_target_lists_candidates(target, message):
    with ScoreMaps(mlp_net(), target=target) as maps, pytest.raises(ValueError, match=message):
        maps(torch.randn(1, 3, 16, 16), torch.tensor([0]))


def test_wrong_arguments():
    with pytest.raises(ValueError, match="cam must be one of cam, gradcam, .* got 'eigencam'"):
        ScoreMaps(gap_net(), 'eigencam')
    with pytest.raises(ValueError, match="steps must be one of last, all, mean, got 'first'"):
        ScoreMaps(gap_net(), steps='first')
    with (
        ScoreMaps(gap_net()) as maps,
        pytest.raises(ValueError, match=r'one row per image \(1\), got 2'),
    ):
        maps(torch.randn(1, 3, 16, 16), torch.tensor([0, 1]))
    with (
        ScoreMaps(nn.Conv2d(3, 4, 3)) as maps,
        pytest.raises(ValueError, match=r'scores of shape \(N, classes\)'),
    ):
        maps(torch.randn(1, 3, 16, 16), torch.tensor([0]))
    with ScoreMaps(mlp_net(), target=3) as maps, pytest.raises(TypeError, match='got int'):
        maps(torch.randn(1, 3, 16, 16), torch.tensor([0]))


def test_score_that_does_not_depend_on_the_layer():
    class Idle(nn.Module):
        def __init__(self):
            super().__init__()
            self.idle, self.fc = nn.Conv2d(3, 4, 3, 2, 1), nn.Linear(3, 2)

        def forward(self, x):
            self.idle(x)
            return self.fc(x.mean((2, 3)))

    with (
        ScoreMaps(Idle(), target='idle') as maps,
        pytest.raises(ValueError, match='do not depend'),
    ):
        maps(torch.randn(1, 3, 8, 8), torch.tensor([0]))


@pytest.mark.parametrize(
    ('shape', 'size', 'kind', 'grid', 'prefix'),
    [
        ((2, 512, 7, 7), (224, 224), 'nchw', (7, 7), 0),
        ((2, 7, 7, 768), (224, 224), 'nhwc', (7, 7), 0),
        ((2, 512, 5, 9), (150, 270), 'nchw', (5, 9), 0),
        ((2, 197, 384), (224, 224), 'tokens', (14, 14), 1),
        ((2, 196, 384), (224, 224), 'tokens', (14, 14), 0),
        ((2, 201, 384), (224, 224), 'tokens', (14, 14), 5),
        ((2, 9, 384), (32, 64), 'tokens', (2, 4), 1),
        ((2, 12, 197, 64), (224, 224), None, None, 0),  # heads of an attention layer
        ((2, 512, 1, 1), (224, 224), None, None, 0),
        ((2, 512), (224, 224), None, None, 0),
    ],
)
def test_layouts(shape, size, kind, grid, prefix):
    layouts = find_layouts(shape, size)
    if kind is None:
        assert layouts == []
    else:
        (layout,) = layouts
        assert (layout.kind, layout.size, layout.prefix) == (kind, grid, prefix)
        maps = layout.to_maps(torch.zeros(shape))
        assert maps.shape == (2, shape[1] if kind == 'nchw' else shape[-1], *grid)


def vit():
    models = pytest.importorskip('torchvision').models
    torch.manual_seed(0)
    net = models.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=5)
    nn.init.normal_(net.heads.head.weight)
    return net


def test_vision_transformer():
    net = vit()
    x = torch.randn(2, 3, 32, 32)
    with ScoreMaps(net) as maps:
        out = maps(x, lambda logits: logits.topk(3).indices)
        assert maps.names == ['encoder.layers.encoder_layer_1.ln_1']
    assert out.maps.shape == (2, 3, 4, 4)
    assert out.maps.max() > 0
    kept = []
    layer = net.encoder.layers.encoder_layer_1.ln_1
    handle = layer.register_forward_hook(keeper(kept))
    net.eval()(x)[1, out.classes[1, 2]].backward()
    handle.remove()
    tokens = kept[0].detach()[1, 1:].T.reshape(16, 4, 4)
    grad = kept[0].grad[1, 1:].T.reshape(16, 4, 4)
    expected = (grad.mean((1, 2))[:, None, None] * tokens).sum(0).clamp(min=0)
    torch.testing.assert_close(out.maps[1, 2], expected, atol=1e-6, rtol=1e-4)


def test_own_reshape_function():
    net = vit()
    x, classes = torch.randn(2, 3, 32, 32), torch.tensor([0, 1])
    name = 'encoder.layers.encoder_layer_1.ln_1'
    with ScoreMaps(net, target=name) as maps:
        expected = maps(x, classes).maps
    own = dict(target=name, reshape=lambda t: t[:, 1:].transpose(1, 2).unflatten(2, (4, 4)))
    with ScoreMaps(net, **own) as maps:
        torch.testing.assert_close(maps(x, classes).maps, expected)


def test_swin_transformer():
    models = pytest.importorskip('torchvision').models
    torch.manual_seed(0)
    net = models.SwinTransformer([4, 4], 8, [1, 1], [2, 2], [4, 4], num_classes=5)
    x, classes = torch.randn(2, 3, 32, 32), torch.tensor([[0, 1], [2, 3]])
    with ScoreMaps(net) as maps:
        assert maps(x, classes).maps.shape == (2, 2, 4, 4)
        assert maps.names == ['permute']
        assert maps.analytic
    with ScoreMaps(net, target='features.3') as maps:  # (N, h, w, C)
        out = maps(x, classes).maps
        assert not maps.analytic
    kept = []
    layer = net.features[3]
    handle = layer.register_forward_hook(keeper(kept))
    net.eval()(x)[1, 3].backward()
    handle.remove()
    act, grad = kept[0].detach()[1], kept[0].grad[1]
    expected = (act * grad.mean((0, 1))).sum(2).clamp(min=0)
    torch.testing.assert_close(out[1, 1], expected, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(
    ('name', 'layer'),
    [('resnet18', 'layer4'), ('vgg11', 'features.19'), ('mobilenet_v2', 'features')],
)
def test_automatic_choice_on_torchvision(name, layer):
    models = pytest.importorskip('torchvision').models
    net = models.get_model(name, weights=None)
    with ScoreMaps(net) as maps:
        assert maps.prepare(torch.randn(1, 3, 64, 64)).names == [layer]
        assert maps.analytic == (name != 'vgg11')


@pytest.mark.parametrize(('method', 'oracle'), [('gradcam', 'GradCAM'), ('layercam', 'LayerCAM')])
def test_torchcam_agrees(method, oracle):
    methods = pytest.importorskip('torchcam.methods', reason='torchcam is not installed')
    net = mlp_net().eval()
    x = torch.randn(2, 3, 32, 32)
    with ScoreMaps(net, method, target='4') as maps:
        ours = maps(x, torch.tensor([[0, 4], [3, 1]]))
    for k, labels in enumerate(([0, 3], [4, 1])):
        with getattr(methods, oracle)(net, target_layer='4') as extractor:
            scores = net(x.clone().requires_grad_())
            theirs = extractor(labels, scores, normalized=False)[0]
        torch.testing.assert_close(ours.maps[:, k], theirs, atol=1e-6, rtol=1e-4)
