import io

import pytest
import torch
from mmcv.cnn import ConvModule, build_conv_layer
from mmcv.cnn.utils import fuse_conv_bn
from mmengine.model import revert_sync_batchnorm
from torch import nn

from mmattn.convs import AWConv2d, aw_engine
from mmattn.testing import randomise
from tests.reference import aw_conv as reference

# id: (constructor, input size)
CASES = {
    '3x3': (dict(in_channels=3, out_channels=4, kernel_size=3, padding=1), (2, 3, 5, 4)),
    '1x1': (dict(in_channels=4, out_channels=6, kernel_size=1), (3, 4, 3, 2)),
    '1x1 stride 2': (dict(in_channels=4, out_channels=6, kernel_size=1, stride=2), (2, 4, 5, 4)),
    'one image': (dict(in_channels=3, out_channels=4, kernel_size=3), (1, 3, 6, 5)),
    'stride': (
        dict(in_channels=3, out_channels=4, kernel_size=3, stride=2, padding=1),
        (2, 3, 7, 6),
    ),
    'dilation': (
        dict(in_channels=2, out_channels=4, kernel_size=3, dilation=2, padding=2),
        (2, 2, 5, 6),
    ),
    'kernel 3x2': (
        dict(in_channels=2, out_channels=3, kernel_size=(3, 2), padding=(1, 0), stride=(1, 2)),
        (2, 2, 4, 7),
    ),
    'map smaller than kernel': (
        dict(in_channels=3, out_channels=4, kernel_size=3, padding=1),
        (2, 3, 2, 1),
    ),
    'groups': (dict(in_channels=6, out_channels=4, kernel_size=3, groups=2), (2, 6, 4, 4)),
    'depthwise': (dict(in_channels=4, out_channels=8, kernel_size=3, groups=4), (2, 4, 4, 5)),
    'r_c1': (dict(in_channels=6, out_channels=4, kernel_size=3, r_c1=2), (2, 6, 4, 4)),
    'r_c1, groups': (
        dict(in_channels=8, out_channels=4, kernel_size=2, groups=2, r_c1=2),
        (2, 8, 4, 3),
    ),
    'r_c1, 1x1': (dict(in_channels=6, out_channels=4, kernel_size=1, r_c1=3), (2, 6, 3, 3)),
    'r_c2': (dict(in_channels=3, out_channels=6, kernel_size=3, r_c2=3), (2, 3, 4, 4)),
    'r_hw 3': (dict(in_channels=3, out_channels=4, kernel_size=3, r_hw=3), (2, 3, 4, 5)),
    'r_hw 9': (dict(in_channels=3, out_channels=4, kernel_size=3, r_hw=9), (2, 3, 4, 5)),
    'all three': (
        dict(in_channels=4, out_channels=4, kernel_size=3, r_c1=2, r_c2=2, r_hw=3, bias=False),
        (2, 4, 4, 4),
    ),
}


def make(options, init='paper'):
    torch.manual_seed(0)
    conv = AWConv2d(**options, reduction=2, init=init).double()
    for norm in (conv.branch.norm1, conv.branch.norm2):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
        nn.init.normal_(norm.running_mean)
        nn.init.uniform_(norm.running_var, 0.5, 2)
    return conv


def reference_map(conv, x):
    def norm(module):
        return module.weight, module.bias, module.running_mean, module.running_var

    params = dict(
        pw1=conv.branch.pw1.weight[:, :, 0, 0],
        pw2=conv.branch.pw2.weight[:, :, 0, 0],
        norm1=norm(conv.branch.norm1),
        norm2=norm(conv.branch.norm2),
        c1_per_group=conv.in_channels // conv.groups,
    )
    return reference.attention_map(
        x,
        params,
        conv.kernel_size,
        conv.branch.r_c1,
        conv.branch.r_c2,
        conv.branch.r_hw,
        conv.training,
    )


def reference_output(conv, x):
    return reference.convolve(
        x,
        conv.weight,
        conv.bias,
        reference_map(conv, x),
        conv.stride,
        conv.padding,
        conv.dilation,
        conv.groups,
    )


def gradients(out, conv, x):
    """Gradients of a fixed random projection, for the input and every parameter."""
    torch.manual_seed(2)
    params = [x, *conv.parameters()]
    return torch.autograd.grad((out * torch.randn_like(out)).sum(), params)


@pytest.mark.parametrize('training', [True, False], ids=['train', 'eval'])
@pytest.mark.parametrize('case', CASES)
def test_equals_the_loops(case, training):
    options, size = CASES[case]
    conv = make(options).train(training)
    torch.manual_seed(1)
    x = torch.randn(size, dtype=torch.float64, requires_grad=True)
    expected = reference_output(conv, x)
    out = conv(x)
    torch.testing.assert_close(out, expected, rtol=1e-9, atol=1e-9)
    for ours, theirs in zip(gradients(out, conv, x), gradients(expected, conv, x)):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


PATHS = {
    path.__name__: path
    for path in (
        aw_engine.output_gate,
        aw_engine.per_sample,
        aw_engine.per_tap,
        aw_engine.rescaled,
        aw_engine.gemm_taps,
        aw_engine.gather_taps,
    )
}
RECOMPUTING = ('gemm_taps', 'gather_taps')


def takes(path, conv):
    """Whether a way of the engine can compute this convolution."""
    simple = conv.groups == 1 and conv.branch.r_c1 == conv.in_channels
    return {
        'output_gate': conv.kernel_size == (1, 1) and simple,
        'per_sample': True,
        'per_tap': True,
        'rescaled': simple,
        'gemm_taps': simple and conv.stride == conv.dilation == (1, 1),
        'gather_taps': simple,
    }[path]


def path_cases():
    for case, (options, _) in CASES.items():
        for path in PATHS:
            if takes(path, make(options)):
                yield case, path, False
                if path in RECOMPUTING:
                    yield case, path, True


def use_path(monkeypatch, path, recompute=False):
    def only(*args):
        return PATHS[path](*args[:4], *([recompute] if path in RECOMPUTING else []))

    monkeypatch.setattr('mmattn.convs.aw_conv.aw_conv2d', only)


@pytest.mark.parametrize('case, path, recompute', path_cases())
def test_every_path_equals_the_loops(case, path, recompute, monkeypatch):
    options, size = CASES[case]
    conv = make(options)
    use_path(monkeypatch, path, recompute)
    torch.manual_seed(1)
    x = torch.randn(size, dtype=torch.float64, requires_grad=True)
    expected, out = reference_output(conv, x), conv(x)
    torch.testing.assert_close(out, expected, rtol=1e-9, atol=1e-9)
    for ours, theirs in zip(gradients(out, conv, x), gradients(expected, conv, x)):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('path', ['rescaled', 'gemm_taps', 'gather_taps'])
class TestOwnBackward:
    """The ways of the engine that write their gradients themselves."""

    def test_second_derivatives(self, path, monkeypatch):
        conv = make(dict(in_channels=2, out_channels=2, kernel_size=2, padding=1)).eval()
        use_path(monkeypatch, path)
        x = torch.randn(2, 2, 2, 3, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(conv, x)
        assert torch.autograd.gradgradcheck(conv, x)

    def test_backward_twice(self, path, monkeypatch):
        """A kept graph gives the same gradients again."""
        conv = make(CASES['3x3'][0])
        use_path(monkeypatch, path)
        x = torch.randn(2, 3, 5, 4, dtype=torch.float64, requires_grad=True)
        out = conv(x).square().sum()
        params = [x, *conv.parameters()]
        first = torch.autograd.grad(out, params, retain_graph=True)
        for a, b in zip(first, torch.autograd.grad(out, params)):
            torch.testing.assert_close(a, b, rtol=0, atol=0)

    def test_frozen_parts(self, path, monkeypatch):
        """Only what needs a gradient gets one, and it is the same."""
        options, size = CASES['3x3']
        conv = make(options)
        use_path(monkeypatch, path)
        x = torch.randn(size, dtype=torch.float64, requires_grad=True)
        whole = dict(
            zip(['x', *(n for n, _ in conv.named_parameters())], gradients(conv(x), conv, x))
        )
        for frozen in (['x'], ['weight'], ['x', 'weight'], [n for n in whole if 'branch' in n]):
            for name, parameter in conv.named_parameters():
                parameter.requires_grad_(name not in frozen)
                parameter.grad = None
            inputs = x.detach().requires_grad_('x' not in frozen)
            out = conv(inputs)
            torch.manual_seed(2)
            (out * torch.randn_like(out)).sum().backward()
            found = {'x': inputs, **dict(conv.named_parameters())}
            for name, tensor in found.items():
                if name in frozen:
                    assert tensor.grad is None
                elif name != 'x' or not any('branch' in n for n in frozen):  # x's path through A
                    torch.testing.assert_close(tensor.grad, whole[name], rtol=1e-9, atol=1e-9)

    @pytest.mark.parametrize('last', [False, True], ids=['contiguous', 'channels_last'])
    def test_memory_format_stays(self, path, last, monkeypatch):
        conv = AWConv2d(3, 4, 3, padding=1)
        use_path(monkeypatch, path)
        memory_format = torch.channels_last if last else torch.contiguous_format
        x = torch.randn(2, 3, 5, 4).to(memory_format=memory_format).requires_grad_()
        out = conv(x)
        assert out.is_contiguous(memory_format=memory_format)
        expected = conv(x.detach().contiguous())
        torch.testing.assert_close(out, expected)

    def test_autocast(self, path, monkeypatch):
        """Sums in float32, result in the low precision, gradients in each tensor's own."""
        torch.manual_seed(0)
        conv = AWConv2d(16, 8, 3, padding=1).eval()
        use_path(monkeypatch, path)
        x = torch.randn(2, 16, 4, 4, requires_grad=True)
        exact = conv(x)
        wanted = torch.autograd.grad(exact.sum(), [x, conv.weight])
        with torch.autocast('cpu', dtype=torch.bfloat16):
            out = conv(x)
        assert out.dtype == torch.bfloat16
        assert (out.float() - exact).abs().max() < 0.02 * exact.abs().max()
        for got, want in zip(torch.autograd.grad(out.sum(), [x, conv.weight]), wanted):
            assert got.dtype == torch.float32
            assert (got - want).abs().max() < 0.03 * want.abs().max()


def test_recompute_keeps_no_taps():
    """What is kept for the backward pass: with taps, kernel positions times the output."""

    def kept(recompute):
        sizes = []
        conv = AWConv2d(32, 32, 3, padding=1, recompute=recompute)
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, id):
            conv(torch.randn(3, 32, 4, 4, requires_grad=True))
        return sizes

    taps = 3 * 4 * 4 * 9 * 32
    assert taps in kept(False)
    assert taps not in kept(True)


@pytest.mark.parametrize('case', ['3x3', 'groups', 'r_c1, groups', 'all three'])
def test_attention_is_inspectable(case):
    options, size = CASES[case]
    conv = make(options).eval().requires_grad_(False)
    x = torch.randn(size, dtype=torch.float64)
    attn = conv.attention(x)
    per_group = conv.in_channels // conv.groups
    assert attn.shape == (
        size[0],
        conv.out_channels,
        per_group // conv.branch.r_c1,
        *conv.kernel_size,
    )
    assert attn.min() > 0
    assert attn.max() < 1
    expanded = attn.repeat_interleave(conv.branch.r_c1, 2)
    expected = torch.tensor(reference_map(conv, x), dtype=torch.float64)
    torch.testing.assert_close(expanded, expected, rtol=1e-9, atol=1e-9)


def test_one_by_one_makes_no_weights_per_image(monkeypatch):
    """A 1x1 kernel is a gate on the output: the convolution sees the shared weight only."""
    seen = []
    conv2d = torch.nn.functional.conv2d

    def record(x, weight, *args, **kwargs):
        seen.append((tuple(x.shape), tuple(weight.shape)))
        return conv2d(x, weight, *args, **kwargs)

    conv = AWConv2d(8, 6, 1)
    monkeypatch.setattr(aw_engine.F, 'conv2d', record)
    conv(torch.randn(4, 8, 5, 5))
    assert ((4, 8, 5, 5), (6, 8, 1, 1)) in seen
    assert all(weight[0] <= 8 for _, weight in seen)


@pytest.mark.parametrize(
    'size, options, path',
    [
        ((1, 16, 3, 3), {}, 'per_sample'),
        ((2, 16, 8, 8), {}, 'rescaled'),
        ((2, 16, 4, 2), {}, 'gemm_taps'),
        ((2, 16, 3, 3), {}, 'rescaled'),
        ((2, 16, 4, 4), dict(stride=2), 'gather_taps'),
        ((2, 16, 2, 4), dict(dilation=2, padding=2), 'gather_taps'),
        ((2, 16, 4, 4), dict(groups=2), 'per_sample'),
        ((2, 16, 4, 4), dict(r_c1=4), 'per_sample'),
        ((2, 16, 8, 8), dict(kernel_size=1, padding=0), 'output_gate'),
        ((0, 16, 4, 4), {}, 'per_tap'),
    ],
    ids=str,
)
def test_dispatch(size, options, path, monkeypatch):
    calls = []
    for name in PATHS:
        original = getattr(aw_engine, name)
        monkeypatch.setattr(
            aw_engine, name, lambda *a, name=name, f=original: calls.append(name) or f(*a)
        )
    conv = AWConv2d(
        **{'in_channels': 16, 'out_channels': 8, 'kernel_size': 3, 'padding': 1, **options}
    )
    conv.eval()(torch.randn(size))
    assert calls == [path]


def test_identity_starts_as_the_plain_conv_and_learns():
    options, size = CASES['3x3']
    conv = make(options, init='identity').eval()
    x = torch.randn(size, dtype=torch.float64)
    plain = nn.functional.conv2d(x, conv.weight, conv.bias, padding=1)
    torch.testing.assert_close(conv(x), plain, rtol=0, atol=1e-12)
    conv(x).square().sum().backward()
    assert conv.gamma.grad.abs() > 0
    assert conv.branch.pw1.weight.grad.abs().max() == 0  # gamma is 0: the branch waits for it

    with torch.no_grad():
        conv.gamma.fill_(0.3)
    paper = make(options).eval()
    paper.load_state_dict(conv.state_dict(), strict=False)
    blended = plain + 0.3 * (paper(x) - plain)
    torch.testing.assert_close(conv(x), blended, rtol=1e-9, atol=1e-9)


def test_gradcheck():
    for case in ('1x1', '3x3', 'one image', 'r_c1'):
        options, _ = CASES[case]
        conv = make(options).eval()
        for num in (1, 2):
            x = torch.randn(
                num, options['in_channels'], 3, 3, dtype=torch.float64, requires_grad=True
            )
            assert torch.autograd.gradcheck(conv, x, fast_mode=True)


def test_plain_checkpoint_loads():
    plain = nn.Conv2d(4, 6, 3)
    conv = AWConv2d(4, 6, 3)
    missing, unexpected = conv.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected
    assert {name.split('.')[0] for name in missing} == {'branch'}
    torch.testing.assert_close(conv.weight, plain.weight)


@pytest.mark.parametrize('mode', ['reflect', 'circular', 'replicate'])
def test_padding_modes(mode):
    conv = AWConv2d(3, 4, 3, padding=1, padding_mode=mode, init='identity')
    plain = nn.Conv2d(3, 4, 3, padding=1, padding_mode=mode)
    plain.load_state_dict({'weight': conv.weight, 'bias': conv.bias})
    x = torch.randn(2, 3, 5, 6)
    torch.testing.assert_close(conv(x), plain(x))


def test_padding_same():
    conv = AWConv2d(3, 4, (3, 2), padding='same', init='identity')
    plain = nn.Conv2d(3, 4, (3, 2), padding='same')
    plain.load_state_dict({'weight': conv.weight, 'bias': conv.bias})
    x = torch.randn(2, 3, 5, 6)
    torch.testing.assert_close(conv(x), plain(x))


@pytest.mark.parametrize('norm', ['GN', 'SyncBN', 'none'])
def test_other_norms(norm):
    conv = AWConv2d(16, 32, 1, norm=norm, reduction=2)
    if norm == 'SyncBN':
        conv.eval()  # its batch statistics need a process group on a GPU
    a, b = conv.attention(torch.randn(2, 16, 4, 4))
    assert not torch.equal(a, b)  # a norm with one value a group would hide the input
    assert (conv.branch.pw1.bias is not None) == (norm == 'none')


def test_bn_needs_two_values():
    conv = AWConv2d(4, 8, 1)
    x = torch.randn(1, 4, 6, 6)
    with pytest.raises(ValueError, match="norm='BN' cannot train on one image .*'GN'"):
        conv(x)
    conv.eval()(x)
    AWConv2d(4, 8, 3)(x)  # nine values a channel are enough
    AWConv2d(4, 8, 1, norm='GN', reduction=2)(x)


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(reduction=0), 'reduction must be >= 1, got 0'),
        (dict(r_c1=3), r'r_c1 must be a divisor of in_channels / groups \(4\), got 3'),
        (dict(r_c1=0), 'r_c1 must be >= 1, got 0'),
        (dict(groups=2, r_c1=4), r'r_c1 must be a divisor of .* \(2\), got 4'),
        (dict(r_c2=5), r'r_c2 must be a divisor of out_channels \(8\), got 5'),
        (dict(r_hw=2), r'r_hw must be one of \[1, 3, 9\] for kernel_size \(3, 3\), got 2'),
        (dict(norm='LN'), r"norm must be one of \('BN', 'GN', 'SyncBN', 'none'\), got 'LN'"),
        (dict(init='zero'), r"init must be one of \('paper', 'identity'\), got 'zero'"),
        (
            dict(kernel_size=1, norm='GN', reduction=8),
            'single value to normalise: lower reduction',
        ),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        AWConv2d(**{'in_channels': 4, 'out_channels': 8, 'kernel_size': 3, **options})


def test_parameter_count():
    """COSTS.md's own figures: 2 w^2 / 16 + 2 (w + w / 16) for a 3x3 of width w."""
    for width, expected in ((64, 648), (128, 2320), (256, 8736), (512, 33856)):
        conv = AWConv2d(width, width, 3, bias=False)
        added = sum(p.numel() for p in conv.parameters()) - conv.weight.numel()
        assert added == expected


def test_built_by_the_host():
    cfg = dict(type='mmattn.AWConv2d', reduction=4, init='identity')
    assert isinstance(build_conv_layer(cfg, 8, 8, 3), AWConv2d)
    layer = ConvModule(8, 12, 3, padding=1, conv_cfg=cfg, norm_cfg=dict(type='BN'))
    assert isinstance(layer.conv, AWConv2d)
    assert layer(torch.randn(2, 8, 6, 6)).shape == (2, 12, 6, 6)


def test_host_fuses_its_batch_norm():
    """The host's fusion rescales ``weight``; the attention does not read it, so it stays right."""
    layer = ConvModule(
        4, 6, 3, conv_cfg=dict(type='mmattn.AWConv2d', reduction=2), norm_cfg=dict(type='BN')
    ).double()
    nn.init.uniform_(layer.bn.running_var, 0.5, 2)
    nn.init.normal_(layer.bn.running_mean)
    layer.eval()
    x = torch.randn(2, 4, 6, 6, dtype=torch.float64)
    expected = layer(x)
    fused = fuse_conv_bn(layer)
    assert isinstance(fused.bn, nn.Identity)
    torch.testing.assert_close(fused(x), expected, rtol=1e-9, atol=1e-9)


def test_autocast_sums_taps_in_float32():
    torch.manual_seed(0)
    conv = AWConv2d(64, 16, 3, padding=1).eval()
    x = torch.randn(2, 64, 4, 4)
    exact = conv(x)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        out = conv(x)
    assert out.dtype == torch.bfloat16
    assert (out.float() - exact).abs().max() < 0.02 * exact.abs().max()
    attn = torch.rand(2, 16, 1, 3, 3)
    where = aw_engine.Where((1, 1), (1, 1), (1, 1))
    taps = aw_engine.per_tap(x.bfloat16(), conv.weight.bfloat16(), attn, where)
    exact = aw_engine.per_tap(x, conv.weight, attn, where)
    assert taps.dtype == torch.bfloat16
    assert (taps.float() - exact).abs().max() < 0.01 * exact.abs().max()


@pytest.mark.parametrize(
    'options',
    [
        {},
        dict(groups=2),
        dict(r_c1=2),
        dict(stride=2, bias=False),
        dict(padding_mode='reflect'),
        dict(dilation=2, padding='same', init='identity'),
        dict(kernel_size=1, padding=0),
    ],
    ids=str,
)
def test_script(options, tmp_path):
    arguments = dict(in_channels=8, out_channels=6, kernel_size=3, padding=1, reduction=2)
    conv = randomise(AWConv2d(**{**arguments, **options})).eval()
    file = tmp_path / 'conv.pt'
    torch.jit.script(conv).save(file)
    scripted = torch.jit.load(file)
    for size in ((2, 8, 6, 7), (5, 8, 9, 4)):
        x = torch.randn(size)
        torch.testing.assert_close(scripted(x), conv(x), rtol=1e-5, atol=1e-5)


def test_trace_is_right_at_another_batch_and_size():
    conv = AWConv2d(4, 6, 3, padding=1, stride=2).eval()
    traced = torch.jit.trace(conv, torch.randn(2, 4, 8, 8))
    x = torch.randn(5, 4, 11, 7)
    torch.testing.assert_close(traced(x), conv(x))


@pytest.mark.parametrize('options', [dict(stride=2), dict(kernel_size=1)], ids=str)
def test_the_newer_onnx_exporter_too(options):
    """The contract's ONNX test takes the older one, which every torch has."""
    pytest.importorskip('onnxscript', reason='torch.onnx.export(dynamo=True) needs onnxscript')
    onnxruntime = pytest.importorskip('onnxruntime')
    conv = AWConv2d(**{'in_channels': 4, 'out_channels': 6, 'kernel_size': 3, **options}).eval()
    free = {axis: torch.export.Dim(f'd{axis}', min=1 if axis == 0 else 6) for axis in (0, 2, 3)}
    program = torch.onnx.export(
        *(conv, (torch.randn(2, 4, 8, 9),)), dynamo=True, dynamic_shapes=(free,), verbose=False
    )
    file = io.BytesIO()
    program.save(file)
    session = onnxruntime.InferenceSession(file.getvalue(), providers=['CPUExecutionProvider'])
    for size in ((2, 4, 8, 9), (5, 4, 11, 7), (1, 4, 7, 13)):
        x = torch.randn(size)
        (out,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        torch.testing.assert_close(torch.from_numpy(out), conv(x))


@pytest.mark.parametrize('reduction', [2.5, None, '16', True])
def test_reduction_is_an_integer(reduction):
    with pytest.raises(TypeError, match='reduction must be an integer, got '):
        AWConv2d(4, 8, 3, reduction=reduction)


def test_reverted_sync_bn_needs_two_values_too():
    """A run of one process turns SyncBN into a BatchNorm of the host's own kind."""
    conv = revert_sync_batchnorm(AWConv2d(4, 8, 1, norm='SyncBN'))
    with pytest.raises(ValueError, match="in a single process norm='SyncBN' is the same"):
        conv(torch.randn(1, 4, 6, 6))


@pytest.mark.parametrize('options', [dict(), dict(r_c1=2), dict(groups=2)])
@pytest.mark.parametrize('kernel_size', [1, 3])
def test_no_images(kernel_size, options):
    """A head may see no proposals; a plain convolution takes that."""
    conv = AWConv2d(4, 8, kernel_size, padding=kernel_size // 2, **options).eval()
    assert conv(torch.randn(0, 4, 5, 6)).shape == (0, 8, 5, 6)


def test_a_frozen_layer_gathers_in_plain_products(monkeypatch):
    """torch may turn a 4-D by 2-D product without gradients into a slow batched one."""
    conv = AWConv2d(16, 8, 3, padding=1, stride=2).eval().requires_grad_(False)
    shapes = []
    product = aw_engine._product
    monkeypatch.setattr(
        aw_engine, '_product', lambda a, b: shapes.append(a.dim()) or product(a, b)
    )
    conv(torch.randn(2, 16, 4, 4))
    assert shapes == [2] * 9


@pytest.mark.parametrize('enabled', [True, False], ids=['oneDNN', 'MKL'])
def test_products_of_any_strides(enabled):
    a, b = torch.randn(7, 6, 2), torch.randn(9, 6, 2)
    with torch.backends.mkldnn.flags(enabled=enabled), torch.no_grad():
        for left in (a[..., 0], a[..., 0].contiguous(), a[..., 0].t().contiguous().t()):
            for right in (b[..., 0], b[..., 0].contiguous()):
                torch.testing.assert_close(aw_engine._product(left, right), left @ right.t())


def test_products_by_onednn_get_rows_or_columns(monkeypatch):
    """Others it multiplies by loops, hundreds of times as slow."""
    operands = []

    def multiply(a, b, *_):
        operands.extend((a, b))
        return a @ b.t()

    monkeypatch.setattr(torch.ops.mkldnn, '_linear_pointwise', multiply, raising=False)
    for stride in (1, 2):
        conv = AWConv2d(64, 8, 3, padding=1, stride=stride)
        conv(torch.randn(2, 64, 4, 4, requires_grad=True)).sum().backward()
    assert len(operands) >= 2 * 3 and all(1 in m.stride() for m in operands)


def test_depthwise_takes_the_weights(monkeypatch):
    """A depthwise kernel is small: taps would move far more than scaled weights."""
    monkeypatch.setattr(aw_engine, 'per_tap', None)
    AWConv2d(64, 64, 3, padding=1, groups=64)(torch.randn(2, 64, 7, 7))


@pytest.mark.parametrize('init', ['paper', 'identity'])
def test_without_the_residual_the_weight_is_the_attended_one(init):
    torch.manual_seed(0)
    conv = AWConv2d(6, 4, 3, padding=1, residual=False, init=init).eval()
    if init == 'identity':
        nn.init.constant_(conv.gamma, 0.3)
    x = torch.randn(3, 6, 9, 7)
    kernels = conv.weight * conv.attention(x)  # (N, C2, C1, 3, 3)
    attended = torch.cat(
        [nn.functional.conv2d(x[n : n + 1], kernels[n], conv.bias, padding=1) for n in range(3)]
    )
    plain = nn.functional.conv2d(x, conv.weight, conv.bias, padding=1)
    expected = attended if init == 'paper' else plain + 0.3 * (attended - plain)
    torch.testing.assert_close(conv(x), expected)
