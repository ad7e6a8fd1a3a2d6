"""What every registered gate and conv must be able to do: one table, one row a method.

The demands are those of ``mmattn.testing``, which a user runs on a method of their own. A new
method here is one more line in ``ROWS``. What a method cannot do stands in its row: the check must
then fail, and the method's docstring must say so in the words given.
"""

import copy
import dataclasses
import os

import pytest
import torch
import torch.multiprocessing
from torch import nn

import mmattn
from mmattn.registry import MODELS
from mmattn.testing import CHECKS, SLOW_CHECKS, Case
from mmattn.testing.case import run
from mmattn.testing.start import check_backward, check_inside, in_resnet, seeded_init

CHANNELS = 16


@dataclasses.dataclass(frozen=True)
class Row(Case):
    """A registered name with options small enough for the test.

    Args:
        name: in the registry.
        refuses: demand -> words of the docstring that say why it is not met.
        no_parameters: values of ``init`` with which there is nothing to learn.
        still_words: words of the docstring on the parameters in ``still``.
        fixed_words: words of the docstring where ``any_size`` is False.
    """

    name: str = ''
    refuses: dict = dataclasses.field(default_factory=dict)
    no_parameters: tuple = ()
    still_words: str = ''
    fixed_words: str = ''

    slot = 'plugin'
    common = dict(in_channels=CHANNELS, reduction=4)  # left out of a row's id

    def __str__(self):
        own = {k: v for k, v in self.options.items() if k not in self.common}
        return ' '.join([self.name, *(f'{k}={_short(v)}' for k, v in own.items())])

    @property
    def docs(self):
        """Demand or parameter -> words that the docstring must hold."""
        more = {'the parameters without a gradient': self.still_words} if self.still else {}
        if not self.any_size:
            more['one graph for all sizes'] = self.fixed_words
        return {**self.refuses, **more}

    def host(self, init):
        """A small network with the method in its slot, a call, and how often it is in there."""
        return in_resnet(self, init, self.slot)


class ConvRow(Row):
    slot = 'conv'
    common = dict(in_channels=CHANNELS, out_channels=CHANNELS, reduction=4)

    def unchanged(self, module, inputs):
        return nn.functional.conv2d(inputs[0], module.weight, module.bias, 1, module.padding)


class NeckRow(Row):
    slot = 'neck'
    common = dict(in_channels=[8, CHANNELS])

    def inputs(self, num, height, width, dtype=torch.float32, seed=1):
        torch.manual_seed(seed)
        x = torch.randn(num, CHANNELS, height, width, dtype=dtype)
        return ((torch.randn(num, 8, 2 * height, 2 * width, dtype=dtype), x),)

    def host(self, init):
        # here, since the two processes below start by importing this file
        from mmdet.registry import MODELS as MMDET_MODELS

        cfg = dict(self.options, type=f'mmattn.{self.name}', init=init)
        fpn = dict(type='FPN', in_channels=[8, CHANNELS], out_channels=4, num_outs=2)
        return MMDET_MODELS.build([cfg, fpn]), self.inputs(2, 4, 3), 1


class HeadRow(Row):
    slot = 'head'
    common = dict(in_channels=CHANNELS, global_channels=12)

    def inputs(self, num, height, width, dtype=torch.float32, seed=1):
        torch.manual_seed(seed)
        x = torch.randn(num, CHANNELS, height, width, dtype=dtype)
        return (x, torch.randn(num, 12, dtype=dtype))

    def shape(self, inputs):
        return (inputs[0].shape[0], 12)

    def host(self, init):
        models = pytest.importorskip('mmpretrain.registry').MODELS
        widths = [8, 8, CHANNELS]
        head = dict(
            type='mmattn.LearnToPayHead',
            num_classes=3,
            in_channels=widths,
            compatibility=self.options.get('compatibility', 'learned'),
        )
        return models.build(head), (tuple(torch.randn(2, c, 4, 3) for c in widths),), 2


def _short(value):
    if isinstance(value, list) and isinstance(value[0], dict):
        return '+'.join(cfg['type'] for cfg in value)
    return value


FIELDS = {field.name for field in dataclasses.fields(Row)}


def row_of(kind, name, options, values):
    fields = {key: values.pop(key) for key in FIELDS & set(values)}
    return kind(MODELS.get(name), {**options, **values}, name=name, **fields)


def gate(name, **values):
    return row_of(Row, name, dict(in_channels=CHANNELS), values)


def conv(name, **values):
    both = dict(in_channels=CHANNELS, out_channels=CHANNELS)
    return row_of(ConvRow, name, both, dict(values, identity_error=1e-6))


LONE = 'train on one image of one position'
ONE_VALUE = {LONE: 'a single image with a'}
ONE_IMAGE = dict.fromkeys(('train on one image', LONE), 'a single image is refused')
ONE_VALUE_A_CHANNEL = dict.fromkeys(('train on one image', LONE), 'a single value per channel')
TWO_BY_TWO = dict.fromkeys(
    (
        'train on one position',
        'predict on one position',
        'predict on one image of one position',
        LONE,
    ),
    'needs at least 2 x 2 positions',
)
SOFTMAX = dict(
    still={'key.bias'},
    still_words='gets no gradient: a softmax does not see a constant',
)
FIXED = dict(
    any_size=False,
    fixed_words='a graph for each map size, ``torch.compile(dynamic=False)``',
)
BAM_STILL = {'channel.0.bias', 'spatial.0.bias', 'spatial.3.bias', 'spatial.6.bias'}
CBAM_SPATIAL = dict(type='SpatialGate')

ROWS = [
    gate('SE', reduction=4),
    gate('SE', reduction=4, bias=False),
    gate('CBAM', reduction=4, refuses=ONE_VALUE),
    gate('CBAM', reduction=4, spatial=False),
    gate('CBAM', reduction=4, max_pool=False, refuses=ONE_VALUE),
    gate('SpatialGate', refuses={LONE: 'training refuses a single image'}),
    gate(
        'BAM',
        reduction=4,
        refuses=ONE_IMAGE,
        still=BAM_STILL,
        still_words='get no gradient in training',
    ),
    gate('ECA'),
    gate('SimAM', no_parameters=('paper',)),
    gate('FcaNet', reduction=4),
    gate('GlobalContext', reduction=4, **{**SOFTMAX, 'still': {'block.conv_mask.bias'}}),
    gate('NonLocal', **{**SOFTMAX, 'still': {'block.phi.conv.bias'}}, **FIXED),
    gate(
        'NonLocal',
        use_scale=True,
        sub_sample=True,
        norm_cfg=dict(type='BN'),
        refuses=TWO_BY_TWO,
        still={'block.phi.0.conv.bias', 'block.g.0.conv.bias'},
        still_words="with a norm, ``g``'s as well",
        **FIXED,
    ),
    gate('PositionAttention', reduction=4, **SOFTMAX),
    gate('ChannelAttention'),
    gate(
        'DualAttention',
        reduction=4,
        still={'position.key.bias'},
        still_words="``key``'s bias gets no gradient",
    ),
    gate('SpatialWeights', refuses={'have right gradients': 'no gradcheck'}),
    gate('ConvAutoencoderAttention'),
    gate('LinearAutoencoderAttention', width=7),
    gate('PyramidAttention', grid_size=2, **SOFTMAX),
    gate('LearnToPayGate'),
    gate('LearnToPayGate', compatibility='dot', no_parameters=('paper',)),
    gate('Sequence', gates=[dict(type='ECA'), CBAM_SPATIAL], refuses={LONE: 'as its gates'}),
    gate('Sequence', gates=[dict(type='ECA'), dict(type='ConvAutoencoderAttention')]),
    row_of(NeckRow, 'PyramidAttention', NeckRow.common, dict(grid_size=3, **SOFTMAX)),
    row_of(
        HeadRow,
        'LearnToPay',
        HeadRow.common,
        dict(still={'input 1'}, still_words='g has no effect and gets no gradient'),
    ),
    row_of(HeadRow, 'LearnToPay', HeadRow.common, dict(compatibility='dot')),
    conv('AWConv2d', kernel_size=3, padding=1, reduction=4),
    conv('AWConv2d', kernel_size=1, reduction=4, refuses=ONE_VALUE_A_CHANNEL),
    conv('AAConv2d', kernel_size=3, padding=1, num_heads=2, dk=4, dv=2, **FIXED),
    conv('AAConv2d', kernel_size=3, padding=1, num_heads=2, dk=4, dv=2, map_size=(5, 6), **FIXED),
    conv('AAConv2d', kernel_size=3, padding=1, num_heads=2, dk=4, dv=2, aw='conv'),
]
# demands that make no sense in a slot: a convolution takes its initial values from the host
LEFT_OUT = {
    'change its input': ('conv', 'neck', 'head'),
    'set in init_weights what its constructor sets': ('conv',),
}
INSIDE = 'work inside a ResNet'  # test_inside_a_host: every slot has a network of its own


@pytest.fixture(params=ROWS, ids=str)
def row(request):
    return request.param


def words(cls):
    return ' '.join(cls.__doc__.split())


def meet(row, demand):
    """The demand is met, or not where the row says so."""
    check = {**CHECKS, **SLOW_CHECKS}[demand]
    if demand not in row.refuses:
        check(row)
        return
    refusal = AssertionError if demand == 'have right gradients' else (ValueError, RuntimeError)
    with pytest.raises(refusal):
        check(row)


# --- the table itself ---------------------------------------------------------------------------


def test_every_registered_gate_and_conv_has_a_row():
    mmattn.register_all_modules()
    packages = ('mmattn.layers', 'mmattn.convs')
    names = {n for n, c in MODELS.module_dict.items() if c.__module__.startswith(packages)}
    assert names == {row.name for row in ROWS}


def test_rows_are_distinct_and_their_exceptions_are_demands():
    assert len({str(row) for row in ROWS}) == len(ROWS)
    assert {demand for row in ROWS for demand in row.refuses} <= {*CHECKS, *SLOW_CHECKS}


def test_the_docstring_names_what_cannot_be_done(row):
    assert not [what for what, said in row.docs.items() if not said or said not in words(row.cls)]


def test_parameters_are_where_the_row_says(row):
    empty = tuple(init for init in row.inits if not list(row.build(init).parameters()))
    assert empty == row.no_parameters


def test_docstring_has_every_part(row):
    doc = row.cls.__doc__
    parts = ['Paper:', 'Differs from the paper:', 'Args:', 'Shape:', 'Raises:']
    places = [doc.find(part) for part in parts]
    assert -1 not in places and places == sorted(places)
    assert 'identity' in row.inits or "no ``init='identity'``" in words(row.cls)


def test_checkpoint_names_are_set_and_distinct():
    classes = {row.cls for row in ROWS if row.slot == 'plugin'}
    names = [cls.__dict__['_abbr_'] for cls in classes]
    assert len(set(names)) == len(names)


# --- the contract -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'row, demand',
    [
        pytest.param(row, demand, id=f'{row}-{demand}')
        for row in ROWS
        for demand in CHECKS
        if demand != INSIDE and row.slot not in LEFT_OUT.get(demand, ())
    ],
)
def test_contract(row, demand):
    meet(row, demand)


@pytest.mark.parametrize(
    'demand',
    [
        pytest.param(demand, marks=[] if demand == 'compile to one graph' else pytest.mark.slow)
        for demand in SLOW_CHECKS
    ],
)
def test_compiled(row, demand):
    meet(row, demand)


def test_a_convolution_leaves_its_initial_values_to_the_host():
    assert not [row for row in ROWS if row.slot == 'conv' and hasattr(row.cls, 'init_weights')]


def test_inside_a_host(row):
    """Built from the host's registry, initial values survive the host's own rules."""
    if row.slot != 'conv':
        with seeded_init(row.cls):
            check_inside(row.cls, *row.host(row.inits[0]))
        return
    host, inputs, count = row.host('identity')
    inside = [m for m in host.modules() if type(m) is row.cls]
    assert len(inside) == count
    fresh = [copy.deepcopy(m.state_dict()) for m in inside]
    host.init_weights()
    for module, before in zip(inside, fresh):  # its kernels take the host's rule, all else stays
        after = module.state_dict()
        for key in [k for k, v in after.items() if v.ndim == 4]:
            assert not torch.equal(after.pop(key), before.pop(key)), key
        torch.testing.assert_close(after, before, rtol=0, atol=0)
    check_backward(host, inputs)


# --- several processes --------------------------------------------------------------------------


def _train_all(rank, folder):
    """Two steps of every row under DDP, which complains about a parameter without a gradient."""
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/meeting', rank=rank, world_size=2
    )
    results = {}
    for row in ROWS:
        for init in row.inits:
            results[str(row), init] = _train(row, init, rank)
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
        if init in row.no_parameters:
            assert first == 'no parameters'
            continue
        assert isinstance(first, list), first
        torch.testing.assert_close(first, second, rtol=0, atol=0)
