"""What every registered gate and conv must be able to do: one table, one row a method.

A new method is one more line in ``ROWS``. What a method cannot do is a line in ``EXCEPTIONS``: the
check must then fail, and the method's docstring must say so in the words given.
"""

import copy
import dataclasses
import inspect
import io
import os
import warnings

import pytest
import torch
import torch.multiprocessing
from torch import nn

import mmattn
from mmattn.registry import MODELS
from tests.values import randomise

CHANNELS = 16


@dataclasses.dataclass(frozen=True)
class Row:
    """A registered name with options small enough for the test, and how it is called."""

    type: str
    options: dict
    slot: str = 'plugin'  # 'plugin', 'conv', 'neck' or 'head'

    def __str__(self):
        own = {k: v for k, v in self.options.items() if k not in _DEFAULTS[self.slot]}
        return ' '.join([self.type, *(f'{k}={_short(v)}' for k, v in own.items())])

    @property
    def cls(self):
        return MODELS.get(self.type)

    @property
    def inits(self):
        has = 'init' in inspect.signature(self.cls.__init__).parameters
        return ('paper', 'identity') if has else ('paper',)

    def build(self, init='paper', seed=0):
        torch.manual_seed(seed)
        chosen = dict(init=init) if len(self.inits) > 1 else {}
        return MODELS.build(dict(type=self.type, **self.options, **chosen))

    def random(self, **kwargs):
        """Random weights, with a gamma where the method has one: all its code takes part."""
        return randomise(self.build(self.inits[-1]), **kwargs)

    def inputs(self, num, height, width, dtype=torch.float32, seed=1):
        torch.manual_seed(seed)
        x = torch.randn(num, CHANNELS, height, width, dtype=dtype)
        if self.slot == 'neck':
            return ((torch.randn(num, 8, 2 * height, 2 * width, dtype=dtype), x),)
        if self.slot == 'head':
            return (x, torch.randn(num, 12, dtype=dtype))
        return (x,)


def _short(value):
    if isinstance(value, list) and isinstance(value[0], dict):
        return '+'.join(cfg['type'] for cfg in value)
    return value


_DEFAULTS = {
    'plugin': dict(in_channels=CHANNELS, reduction=4),
    'conv': dict(in_channels=CHANNELS, out_channels=CHANNELS, reduction=4),
    'neck': dict(in_channels=[8, CHANNELS]),
    'head': dict(in_channels=CHANNELS, global_channels=12),
}


def gate(type, **options):
    return Row(type, dict(in_channels=CHANNELS, **options))


def conv(type, **options):
    return Row(type, dict(in_channels=CHANNELS, out_channels=CHANNELS, **options), 'conv')


ROWS = [
    gate('SE', reduction=4),
    gate('SE', reduction=4, bias=False),
    gate('CBAM', reduction=4),
    gate('CBAM', reduction=4, spatial=False),
    gate('CBAM', reduction=4, max_pool=False),
    gate('SpatialGate'),
    gate('BAM', reduction=4),
    gate('ECA'),
    gate('SimAM'),
    gate('FcaNet', reduction=4),
    gate('GlobalContext', reduction=4),
    gate('NonLocal'),
    gate('NonLocal', use_scale=True, sub_sample=True, norm_cfg=dict(type='BN')),
    gate('PositionAttention', reduction=4),
    gate('ChannelAttention'),
    gate('DualAttention', reduction=4),
    gate('SpatialWeights'),
    gate('ConvAutoencoderAttention'),
    gate('LinearAutoencoderAttention', width=7),
    gate('PyramidAttention', grid_size=2),
    gate('LearnToPayGate'),
    gate('LearnToPayGate', compatibility='dot'),
    gate('Sequence', gates=[dict(type='ECA'), dict(type='SpatialGate')]),
    gate('Sequence', gates=[dict(type='ECA'), dict(type='ConvAutoencoderAttention')]),
    Row('PyramidAttention', dict(in_channels=[8, CHANNELS], grid_size=3), 'neck'),
    Row('LearnToPay', dict(in_channels=CHANNELS, global_channels=12), 'head'),
    Row('LearnToPay', dict(in_channels=CHANNELS, global_channels=12, compatibility='dot'), 'head'),
    conv('AWConv2d', kernel_size=3, padding=1, reduction=4),
    conv('AWConv2d', kernel_size=1, reduction=4),
    conv('AAConv2d', kernel_size=3, padding=1, num_heads=2, dk=4, dv=2),
    conv('AAConv2d', kernel_size=3, padding=1, num_heads=2, dk=4, dv=2, map_size=(5, 6)),
    conv('AAConv2d', kernel_size=3, padding=1, num_heads=2, dk=4, dv=2, aw='conv'),
]
ROW_IDS = {str(row): row for row in ROWS}

_LONE = 'a single picture with a'
# (row, check): words of the docstring that say so
EXCEPTIONS = {
    ('BAM', 'one picture'): 'a single picture is refused',
    ('BAM', 'one number'): 'a single picture is refused',
    ('CBAM', 'one number'): _LONE,
    ('CBAM max_pool=False', 'one number'): _LONE,
    ('SpatialGate', 'one number'): 'training refuses a single picture',
    ('Sequence gates=ECA+SpatialGate', 'one number'): 'as its gates',
    (
        "NonLocal use_scale=True sub_sample=True norm_cfg={'type': 'BN'}",
        'one position',
    ): 'needs at least 2 x 2 positions',
    (
        "NonLocal use_scale=True sub_sample=True norm_cfg={'type': 'BN'}",
        'one number',
    ): 'needs at least 2 x 2 positions',
    ('SpatialWeights', 'gradcheck'): 'no gradcheck',
    ('AWConv2d kernel_size=1', 'one picture'): 'a single value per channel',
    ('AWConv2d kernel_size=1', 'one number'): 'a single value per channel',
    **dict.fromkeys(
        [
            (name, 'compiled for all sizes')
            for name in (
                'NonLocal',
                "NonLocal use_scale=True sub_sample=True norm_cfg={'type': 'BN'}",
                'AAConv2d kernel_size=3 padding=1 num_heads=2 dk=4 dv=2',
                'AAConv2d kernel_size=3 padding=1 num_heads=2 dk=4 dv=2 map_size=(5, 6)',
            )
        ],
        'a graph for each map size, ``torch.compile(dynamic=False)``',
    ),
}
NO_PARAMETERS = {('SimAM', 'paper'), ('LearnToPayGate compatibility=dot', 'paper')}
# row: (parameters whose gradient is 0 by the method's own mathematics, words of the docstring)
_SOFTMAX = 'gets no gradient: a softmax does not see a constant'
DEAD = {
    'BAM': (
        {'channel.0.bias', 'spatial.0.bias', 'spatial.3.bias', 'spatial.6.bias'},
        'get no gradient in training',
    ),
    'GlobalContext': ({'block.conv_mask.bias'}, _SOFTMAX),
    'NonLocal': ({'block.phi.conv.bias'}, _SOFTMAX),
    "NonLocal use_scale=True sub_sample=True norm_cfg={'type': 'BN'}": (
        {'block.phi.0.conv.bias', 'block.g.0.conv.bias'},
        "with a norm, ``g``'s as well",
    ),
    'PositionAttention': ({'key.bias'}, _SOFTMAX),
    'DualAttention': ({'position.key.bias'}, "``key``'s bias gets no gradient"),
    'LearnToPay': ({'input 1'}, 'g has no effect and gets no gradient'),
    'PyramidAttention grid_size=2': ({'key.bias'}, _SOFTMAX),
    'PyramidAttention grid_size=3': ({'key.bias'}, _SOFTMAX),
}


@pytest.fixture(params=ROW_IDS, ids=str)
def row(request):
    return ROW_IDS[request.param]


def words(cls):
    return ' '.join(cls.__doc__.split())


def run(module, inputs):
    """The tensor a method changes: its output, of a tuple the last."""
    out = module(*inputs)
    return out if isinstance(out, torch.Tensor) else out[-1]


def flat(inputs):
    return [t for x in inputs for t in (x if isinstance(x, tuple) else (x,))]


def expect(row, check):
    """Runs the block: it must pass, or fail where the table says so."""
    if (str(row), check) in EXCEPTIONS:
        return pytest.raises((ValueError, RuntimeError))
    return _passes


class _Passes:
    def __enter__(self):
        return self

    def __exit__(self, *error):
        return False


_passes = _Passes()


def close(found, wanted, tolerance=1e-4):
    torch.testing.assert_close(found, wanted, rtol=tolerance, atol=tolerance)


# --- the table itself ---------------------------------------------------------------------------


def test_every_registered_gate_and_conv_has_a_row():
    mmattn.register_all_modules()
    packages = ('mmattn.layers', 'mmattn.convs')
    names = {n for n, c in MODELS.module_dict.items() if c.__module__.startswith(packages)}
    assert names == {row.type for row in ROWS}


def test_ids_are_unique_and_exceptions_belong_to_rows():
    assert len(ROW_IDS) == len(ROWS)
    assert {name for name, _ in EXCEPTIONS} | set(DEAD) <= set(ROW_IDS)
    assert {check for _, check in EXCEPTIONS} <= {*SIZES, 'gradcheck', 'compiled for all sizes'}


@pytest.mark.parametrize('name, check', EXCEPTIONS, ids=lambda v: str(v))
def test_the_docstring_names_what_cannot_be_done(name, check):
    assert EXCEPTIONS[name, check] in words(ROW_IDS[name].cls)


@pytest.mark.parametrize('name', DEAD)
def test_the_docstring_names_parameters_without_gradient(name):
    assert DEAD[name][1] in words(ROW_IDS[name].cls)


def test_docstring_has_every_part(row):
    doc = row.cls.__doc__
    parts = ['Paper:', 'Differs from the paper:', 'Args:', 'Shape:', 'Raises:']
    places = [doc.find(part) for part in parts]
    assert -1 not in places and places == sorted(places)


def test_checkpoint_names_are_set_and_distinct():
    classes = {row.cls for row in ROWS if row.slot == 'plugin'}
    names = [cls.__dict__['_abbr_'] for cls in classes]
    assert len(set(names)) == len(names)


# --- shapes, values, gradients ------------------------------------------------------------------

SIZES = {
    'non-square': (2, 4, 6),
    'odd': (2, 7, 5),
    'row': (2, 2, 9),
    'large': (2, 20, 18),
    'one picture': (1, 5, 6),
    'one position': (2, 1, 1),
    'one number': (1, 1, 1),
}


@pytest.mark.parametrize('size', SIZES)
def test_sizes(row, size):
    module = row.random()
    inputs = row.inputs(*SIZES[size])
    for t in flat(inputs):
        t.requires_grad_()
    with expect(row, size):
        out = run(module.train(), inputs)
        assert torch.isfinite(out).all()
        out.square().sum().backward()
        assert all(torch.isfinite(p.grad).all() for p in module.parameters())
        assert all(torch.isfinite(t.grad).all() for t in flat(inputs))
    if (str(row), size) not in EXCEPTIONS or 'sub_sample' not in str(row):
        out = run(module.eval(), inputs)
        assert torch.isfinite(out).all()
        wanted = (inputs[0].shape[0], 12) if row.slot == 'head' else flat(inputs)[-1].shape
        assert out.shape == wanted


@pytest.mark.parametrize('dtype', [torch.float64, torch.bfloat16], ids=['float64', 'bfloat16'])
def test_keeps_the_dtype(row, dtype):
    out = run(row.random().to(dtype), row.inputs(2, 5, 7, dtype))
    assert out.dtype == dtype
    assert torch.isfinite(out).all()


def test_pictures_do_not_mix(row):
    module = row.random().eval()
    both = row.inputs(2, 5, 6)
    alone = tuple(tuple(t[:1] for t in x) if isinstance(x, tuple) else x[:1] for x in both)
    close(run(module, alone), run(module, both)[:1], 1e-5)


def test_reacts_to_the_input(row):
    module = row.random().eval()
    first, second = (row.inputs(2, 5, 6, seed=seed) for seed in (1, 2))
    gap = run(module, first) - run(module, second)
    assert gap.flatten(1).abs().amax(1).min() > 1e-2
    if row.slot == 'plugin':
        assert (run(module, first) - first[0]).abs().max() > 1e-2


def test_every_parameter_learns(row):
    """Step 0 reaches gamma; after one step every parameter and the input have a gradient."""
    for init in row.inits:
        module = row.build(init).double().train()
        inputs = row.inputs(3, 5, 7, torch.float64)
        for t in flat(inputs):
            t.requires_grad_()
        weight = torch.randn_like(run(module, inputs))
        optimizer = None
        if (str(row), init) not in NO_PARAMETERS:
            optimizer = torch.optim.SGD(module.parameters(), 0.1)
        for step in range(2):
            module.zero_grad()
            (run(module, inputs) * weight).mean().backward()
            if step == 0 and init == 'identity':
                gammas = [p for n, p in module.named_parameters() if n.split('.')[-1] == 'gamma']
                assert gammas and all(p.grad.abs() > 1e-6 for p in gammas)
            if step == 0 and optimizer is not None:
                optimizer.step()
        still = _zeros(module.named_parameters())
        still |= _zeros((f'input {i}', t) for i, t in enumerate(flat(inputs)))
        assert still == DEAD.get(str(row), (set(),))[0], init


def _zeros(named):
    """Names whose gradient is rounding noise beside the largest."""
    largest = {name: t.grad.abs().max().item() for name, t in named}
    return {n for n, v in largest.items() if not v > 1e-11 * max(largest.values())}


def test_gradcheck(row):
    module = row.random().double().train()
    names = [n for n, _ in module.named_parameters()]
    inputs = row.inputs(2, 3, 2, torch.float64)
    leaves = [t.requires_grad_() for t in flat(inputs)]

    def call(*tensors):
        own, parameters = tensors[: len(leaves)], tensors[len(leaves) :]
        args = (tuple(own),) if isinstance(inputs[0], tuple) else own
        out = torch.func.functional_call(module, dict(zip(names, parameters)), args)
        return out if isinstance(out, torch.Tensor) else out[-1]

    declared = (str(row), 'gradcheck') in EXCEPTIONS
    checked = (*leaves, *(p.detach() if declared else p for p in module.parameters()))
    passes = torch.autograd.gradcheck(call, checked, fast_mode=True, raise_exception=False)
    assert passes != declared


@pytest.mark.parametrize('scale', [1, 100])
def test_autocast(row, scale):
    module = row.random().train()
    inputs = row.inputs(2, 6, 5)
    for t in flat(inputs):
        t.mul_(scale).requires_grad_()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        out = run(module, inputs)
    out.float().sum().backward()
    assert torch.isfinite(out).all()
    assert all(torch.isfinite(p.grad).all() for p in (*module.parameters(), *flat(inputs)))


# --- initial values -----------------------------------------------------------------------------


def test_identity_start(row):
    if 'identity' not in row.inits:
        assert "no ``init='identity'``" in words(row.cls)
        return
    module = row.build('identity')
    for training in (True, False):
        inputs = row.inputs(2, 5, 6)
        wanted = flat(inputs)[-1]
        if row.slot == 'conv':
            wanted = nn.functional.conv2d(wanted, module.weight, module.bias, 1, module.padding)
        close(run(module.train(training), inputs), wanted, 1e-6 if row.slot == 'conv' else 0)


def test_init_weights_gives_what_the_constructor_gives(row, monkeypatch):
    if row.slot == 'conv':  # the host's rule for convolutions is meant to reach it
        assert not hasattr(row.cls, 'init_weights')
        return
    _seed_init_weights(row.cls, monkeypatch)
    for init in row.inits:
        module, fresh = row.build(init), row.build(init)
        for parameter in module.parameters():
            nn.init.constant_(parameter, 7)
        module.init_weights()
        torch.testing.assert_close(module.state_dict(), fresh.state_dict(), rtol=0, atol=0)


def _seed_init_weights(cls, monkeypatch):
    original = cls.init_weights

    def seeded(self):
        torch.manual_seed(5)
        original(self)

    monkeypatch.setattr(cls, 'init_weights', seeded)


# --- hosts --------------------------------------------------------------------------------------


def host_of(row, init):
    """A small host network with the method in its slot, a call, and how often it is in there."""
    # here, since the two processes below start by importing this file
    from mmdet.registry import MODELS as MMDET_MODELS

    cfg = dict(type=f'mmattn.{row.type}', **row.options)
    cfg |= dict(init=init) if len(row.inits) > 1 else {}
    if row.slot == 'neck':
        neck = [cfg, dict(type='FPN', in_channels=[8, CHANNELS], out_channels=4, num_outs=2)]
        return MMDET_MODELS.build(neck), row.inputs(2, 4, 3), 1
    if row.slot == 'head':
        MMPRETRAIN_MODELS = pytest.importorskip('mmpretrain.registry').MODELS
        compatibility = row.options.get('compatibility', 'learned')
        head = dict(
            type='mmattn.LearnToPayHead',
            num_classes=3,
            in_channels=[8, 8, CHANNELS],
            compatibility=compatibility,
        )
        maps = tuple(torch.randn(2, c, 4, 3) for c in (8, 8, CHANNELS))
        return MMPRETRAIN_MODELS.build(head), (maps,), 2
    cfg = {k: v for k, v in cfg.items() if k not in _CONSTRUCTOR}
    slots = dict(
        plugin=dict(plugins=[dict(cfg=cfg, stages=(True,), position='after_conv3')]),
        conv=dict(conv_cfg=cfg),
    )
    backbone = dict(
        type='ResNet',
        depth=50,
        base_channels=CHANNELS // 4,
        stem_channels=8,
        num_stages=1,
        strides=(1,),
        dilations=(1,),
        out_indices=(0,),
        **slots[row.slot],
    )
    count = 3 if row.slot == 'plugin' else 11  # blocks; all convolutions, as conv_cfg does
    return MMDET_MODELS.build(backbone), (torch.randn(2, 3, 16, 20),), count


_CONSTRUCTOR = ('in_channels', 'out_channels', 'kernel_size', 'padding')


def test_inside_a_host(row, monkeypatch):
    """Built from the host's registry, initial values survive the host's own rules."""
    if row.slot != 'conv':
        _seed_init_weights(row.cls, monkeypatch)
    host, inputs, count = host_of(row, row.inits[-1 if row.slot == 'conv' else 0])
    inside = [m for m in host.modules() if type(m) is row.cls]
    assert len(inside) == count
    fresh = [copy.deepcopy(m.state_dict()) for m in inside]
    if row.slot != 'conv':
        for parameter in (p for m in inside for p in m.parameters()):
            nn.init.constant_(parameter, 7)
    host.init_weights()
    for module, before in zip(inside, fresh):
        after = module.state_dict()
        if row.slot == 'conv':  # its convolutions take the host's rule, all else stays
            for key in [k for k, v in after.items() if v.ndim == 4]:
                assert not torch.equal(after.pop(key), before.pop(key)), key
        torch.testing.assert_close(after, before, rtol=0, atol=0)
    out = host(*inputs)
    out = out if isinstance(out, torch.Tensor) else out[-1]
    out.sum().backward()
    assert torch.isfinite(out).all()


# --- copies -------------------------------------------------------------------------------------


def test_state_dict_round_trip(row):
    module, other = row.random(seed=1), row.random(seed=2)
    inputs = row.inputs(2, 5, 6)
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    close(run(other.eval(), inputs), run(module.eval(), inputs), 0)


def test_deep_copy(row):
    module = row.random().eval()
    inputs = row.inputs(2, 5, 6)
    out = run(module, inputs)
    twin = copy.deepcopy(module)
    close(run(twin, inputs), out, 0)
    randomise(twin, seed=9)
    close(run(module, inputs), out, 0)


# --- graphs -------------------------------------------------------------------------------------

RECORDED = (2, 9, 10)
OTHERS = [(3, 8, 13), (1, 11, 9)]


def test_trace(row):
    module = row.random().eval()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', torch.jit.TracerWarning)
        traced = torch.jit.trace(module, row.inputs(*RECORDED), check_trace=False)
    file = io.BytesIO()
    torch.jit.save(traced, file)
    file.seek(0)
    loaded = torch.jit.load(file)
    for size in (RECORDED, *OTHERS):
        inputs = row.inputs(*size)
        close(run(loaded, inputs), run(module, inputs))


def check_compile(row, backend, calls, dynamic=None):
    torch._dynamo.reset()
    module = row.random()
    twin = copy.deepcopy(module)
    compiled = torch.compile(twin, fullgraph=True, backend=backend, dynamic=dynamic)
    for size, training in calls:
        module.train(training)
        compiled.train(training)
        inputs = row.inputs(*size)
        close(run(compiled, inputs), run(module, inputs))


def test_compile_captures_one_graph(row):
    check_compile(row, 'eager', [((2, 6, 5), True)])


@pytest.mark.slow
def test_compile_captures_one_graph_for_many_sizes(row):
    check_compile(row, 'eager', [((2, 6, 5), False), ((3, 9, 7), False), ((1, 8, 11), False)])


@pytest.mark.slow
def test_compile(row):
    # where torch's compiler (2.8) fails on free sizes: a graph for each size
    dynamic = False if (str(row), 'compiled for all sizes') in EXCEPTIONS else None
    check_compile(row, 'inductor', [((2, 6, 5), True), ((3, 9, 7), False)], dynamic)


def test_onnx(row):
    import onnxruntime

    module = row.random().eval()
    names = [f'x{i}' for i in range(len(flat(row.inputs(*RECORDED))))]
    axes = {name: {0: 'n'} for name in names}
    axes |= {n: {0: 'n', 2: f'h_{n}', 3: f'w_{n}'} for n in names}
    if row.slot == 'head':
        axes['x1'] = {0: 'n'}
    file = io.BytesIO()
    legacy = dict(dynamo=False) if torch.__version__ >= '2.5' else {}
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        torch.onnx.export(
            _Flat(module, row.slot == 'neck').eval(),
            tuple(flat(row.inputs(*RECORDED))),
            file,
            input_names=names,
            output_names=['out'],
            dynamic_axes=axes,
            opset_version=17,
            **legacy,
        )
    session = onnxruntime.InferenceSession(file.getvalue(), providers=['CPUExecutionProvider'])
    for size in (RECORDED, *OTHERS):
        inputs = row.inputs(*size)
        feed = {n: t.numpy() for n, t in zip(names, flat(inputs))}
        (out,) = session.run(None, feed)
        close(torch.from_numpy(out), run(module, inputs))


class _Flat(nn.Module):
    """Tensors in, one tensor out: the signature of an ONNX graph."""

    def __init__(self, module, gather):
        super().__init__()
        self.module = module
        self.gather = gather

    def forward(self, *inputs):
        return run(self.module, (inputs,) if self.gather else inputs)


# --- several processes --------------------------------------------------------------------------


def _train_all(rank, folder):
    """Two steps of every row under DDP, which complains about a parameter without a gradient."""
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/meeting', rank=rank, world_size=2
    )
    results = {}
    for name, row in ROW_IDS.items():
        for init in row.inits:
            results[name, init] = _train(row, init, rank)
    torch.save(results, f'{folder}/{rank}.pth')
    torch.distributed.destroy_process_group()


def _train(row, init, rank):
    module = row.build(init, seed=rank).train()
    if not list(module.parameters()):
        return 'no parameters'
    try:
        parallel = nn.parallel.DistributedDataParallel(module)
        optimizer = torch.optim.SGD(parallel.parameters(), 0.1)
        for step in range(2):
            optimizer.zero_grad()
            run(parallel, row.inputs(2, 5, 6, seed=10 * rank + step)).square().sum().backward()
            optimizer.step()
    except RuntimeError as error:
        return str(error)
    return [p.detach().clone() for p in module.parameters()]


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp('ddp')
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    torch.multiprocessing.spawn(_train_all, (str(folder),), nprocs=2)
    return [torch.load(folder / f'{rank}.pth', weights_only=True) for rank in range(2)]


def test_two_processes_agree(row, trained):
    for init in row.inits:
        first, second = (results[str(row), init] for results in trained)
        if (str(row), init) in NO_PARAMETERS:
            assert first == 'no parameters'
            continue
        assert isinstance(first, list), first
        torch.testing.assert_close(first, second, rtol=0, atol=0)
