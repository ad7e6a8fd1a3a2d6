"""Wrong constructor arguments of every registered class: refused in a sentence of ours, always.

A valid construction is changed in one or two places: a value of another type, a misspelt name, a
missing one. What the class may take stands here by the argument's name, apart from the classes'
own annotations.
"""

import random
import traceback
from pathlib import Path

import pytest
import torch
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS

import mmattn
from mmattn import registry

PACKAGE = str(Path(mmattn.__file__).parent)
SMALL = dict(depth=18, base_channels=8)
GATE = dict(gate=dict(type='mmattn.SE'), position='after_conv2')
# a valid construction of every registered class, small
VALID = {
    'AAConv2d': dict(
        in_channels=4, out_channels=8, kernel_size=3, padding=1, num_heads=2, dk=4, dv=2
    ),
    'AWConv2d': dict(in_channels=4, out_channels=8, kernel_size=3, padding=1, reduction=2),
    'AWFPN': dict(in_channels=[4, 8], out_channels=4, num_outs=2),
    'Attend': dict(wrapped='ResNet', attention=[dict(gate=dict(type='mmattn.SE'))], **SMALL),
    'AttentionResNet': dict(attention=[GATE], **SMALL),
    'BAM': dict(in_channels=8),
    'CBAM': dict(in_channels=8),
    'ChannelAttention': dict(in_channels=8),
    'ConvAutoencoderAttention': dict(in_channels=8),
    'DualAttention': dict(in_channels=8),
    'ECA': dict(in_channels=8),
    'EfficientNetLite': dict(),
    'FcaNet': dict(in_channels=16),
    'GlobalContext': dict(in_channels=8, reduction=4),
    'LearnToPay': dict(in_channels=8, global_channels=4),
    'LearnToPayGate': dict(in_channels=8),
    'LearnToPayHead': dict(num_classes=3, in_channels=[4, 8]),
    'LearnToPayVGG': dict(depth=11),
    'LinearAutoencoderAttention': dict(in_channels=8),
    'MobileNetV1': dict(widen_factor=0.25),
    'NonLocal': dict(in_channels=8),
    'PositionAttention': dict(in_channels=8),
    'PyramidAttention': dict(in_channels=8),
    'ReportCNN': dict(),
    'ReportHead': dict(num_classes=3, in_channels=8),
    'SE': dict(in_channels=8),
    'SSIA': dict(
        model=dict(
            type='mmpretrain.ImageClassifier',
            backbone=dict(type='mmpretrain.ResNet', depth=18, base_channels=8, stem_channels=8),
        ),
        taps=['backbone.layer1', 'backbone.layer2'],
        sample=(3, 32, 32),
    ),
    'Sequence': dict(in_channels=8, gates=[dict(type='ECA'), dict(type='SpatialGate')]),
    'SimAM': dict(in_channels=8),
    'SpatialGate': dict(in_channels=8),
    'SpatialWeights': dict(in_channels=8),
    'SSDHead': dict(
        in_channels=[8] * 6,
        anchor_generator=dict(
            type='mmdet.SSDAnchorGenerator',
            scale_major=False,
            input_size=300,
            basesize_ratio_range=(0.15, 0.9),
            strides=[8, 16, 32, 64, 100, 300],
            ratios=[[2], [2, 3], [2, 3], [2, 3], [2], [2]],
        ),
    ),
    'StepClassifier': dict(
        backbone=dict(type='mmattn.TDResNet', **SMALL),
        head=dict(type='mmpretrain.LinearClsHead', num_classes=3, in_channels=8),
    ),
    'TDConvNeXt': dict(arch=dict(depths=[1, 1], channels=[8, 16]), out_indices=(0, 1)),
    'TDMobileNetV3': dict(arch='small_050'),
    'TDResNet': dict(**SMALL),
    'WSDAN': dict(
        backbone=dict(type='mmpretrain.ResNet', depth=18),
        head=dict(type='mmattn.WSDANHead', num_classes=3, in_channels=512),
    ),
    'WSDANHead': dict(num_classes=3, in_channels=8),
    'WideResNet': dict(depth=10, widen_factor=1),
}

# what is registered beside models: registry, a valid construction
OTHERS = {
    'SafeCheckpointHook': ('HOOKS', dict()),
    'InvalidLossHook': ('HOOKS', dict()),
    'SSIAHook': ('HOOKS', dict()),
    'CocoMetric': ('METRICS', dict(metric='bbox')),
    'StepAccuracy': ('METRICS', dict()),
    'RandomSplit': (
        'DATASETS',
        dict(dataset=dict(type='TenNumbers'), lengths=[6, 4], part=0),
    ),
    'ImageNetV2': ('DATASETS', dict(data_root='data', lazy_init=True)),
    'ImageNetSubset': ('DATASETS', dict(number=100, data_root='data', lazy_init=True)),
    'CIFAR10Folders': ('DATASETS', dict(data_root='data', lazy_init=True)),
}
VALID |= {name: options for name, (_, options) in OTHERS.items()}

INT, FLOAT, BOOL, STR, NONE, DICT = 'int', 'float', 'bool', 'str', 'None', 'dict'
INTS, STRS, DICTS, BOOLS, FLOATS, MIXED = 'ints', 'strs', 'dicts', 'bools', 'floats', 'mixed'
# kind -> values of it
POOL = {
    INT: [-1, 0, 1, 3, 7, 24],
    FLOAT: [0.5, -1.5, float('nan'), float('inf')],
    BOOL: [True, False],
    STR: ['', 'BN', '3', 'none', 'identity'],
    NONE: [None],
    DICT: [{}, dict(type='BN'), dict(type='no such thing'), dict(kind='SE'), dict(type=3)],
    INTS: [[], [1], (1, 2), [0, -1, 3], (3, 3)],
    STRS: [['a'], ('BN', 'GN')],
    DICTS: [[{}], [dict(type='mmattn.SE')], [dict(type='no such thing')]],
    BOOLS: [[True, False]],
    FLOATS: [[0.5, 1.5]],
    MIXED: [[1, 'a'], [None], object(), b'bytes', 1 + 2j],
}
LIST = {INTS, STRS, DICTS, BOOLS, FLOATS, MIXED}
# argument -> kinds that its class may take; every other kind must be refused
ALLOWED = {
    **dict.fromkeys(
        ['in_channels', 'out_channels', 'global_channels', 'reduction', 'groups', 'num_heads']
        + ['r_c2', 'r_hw', 'grid_size', 'width', 'num_classes', 'num_outs', 'base_width']
        + ['base_channels', 'num_stages', 'start_level', 'end_level', 'stacked_convs', 'stages']
        + ['maps', 'feat_channels', 'warmup', 'frozen_stages', 'stem_patch_size'],
        {INT},
    ),
    **dict.fromkeys(['r_c1', 'size', 'stem_channels'], {INT, NONE}),
    **dict.fromkeys(['kernel_size', 'stride', 'dilation'], {INT, INTS}),
    'padding': {INT, INTS, STR},
    'map_size': {INTS, NONE},
    **dict.fromkeys(
        ['beta', 'centre_weight', 'test_thr', 'dk', 'dv', 'lam', 'loss_weight', 'drop_path_rate'],
        {INT, FLOAT},
    ),
    **dict.fromkeys(['layer_scale_init_value'], {INT, FLOAT}),
    **dict.fromkeys(
        ['bias', 'max_pool', 'spatial', 'use_scale', 'sub_sample', 'recompute', 'residual']
        + ['norm_eval', 'with_cp', 'deep_stem', 'avg_down', 'zero_init_residual', 'cifar_stem']
        + ['attention_norm_eval', 'idle_stage', 'relu_before_extra_convs', 'no_norm_on_lateral']
        + ['cal_acc', 'linear_pw_conv', 'use_grn', 'gap_before_final_norm', 'use_depthwise']
        + ['reg_decoded_bbox', 'late_pooling'],
        {BOOL},
    ),
    **dict.fromkeys(
        ['init', 'norm', 'aw', 'compatibility', 'padding_mode', 'operation', 'style'], {STR}
    ),
    **dict.fromkeys(['preset', 'pretrained'], {STR, NONE}),
    **dict.fromkeys(
        ['norm_cfg', 'conv_cfg', 'act_cfg', 'gate_cfg', 'over_cfg', 'conv2', 'upsample_cfg']
        + ['train_cfg', 'test_cfg', 'data_preprocessor', 'dcn'],
        {DICT, NONE, MIXED},
    ),
    **dict.fromkeys(['crop_thr', 'drop_thr', 'margin'], {FLOATS, INTS}),
    'neck': {DICT, NONE, MIXED},
    'rule': {STR},
    **dict.fromkeys(
        ['backbone', 'head', 'loss', 'model', 'anchor_generator', 'bbox_coder'], {DICT, MIXED}
    ),
    'init_cfg': {DICT, NONE, DICTS, MIXED, INTS},
    'gates': {DICTS, INTS},
    'basic_convs': {*LIST},
    'conv2_stages': {*LIST, NONE},
    'taps': {*LIST},
    'blocks': {*LIST, NONE},
    'sample': {INTS, MIXED, NONE, FLOATS, STRS, DICTS, BOOLS},
    'lambdas': {INTS, FLOATS, NONE},
    'strides': {INTS},
    'dilations': {INTS},
    'out_indices': {INT, INTS, NONE},
    'stage_with_dcn': {BOOLS, INTS},
    'plugins': {DICTS, NONE, INTS},
    'add_extra_convs': {BOOL, STR},
    'topk': {INT, INTS},
    'depth': {INT, NONE},
    'steps': {INT, NONE},
    'distance': {INT, NONE},
    'widen_factor': {INT, FLOAT},
    'arch': {STR, DICT, NONE},
    'wrapped': {STR, DICT},
    'scheme': {STR, MIXED, *LIST},
    'device': {STR, NONE, INT},
    'dataset': {DICT},
    'number': {INT},
    'max_refetch': {INT},
    **dict.fromkeys(['data_root', 'split'], {STR}),
    'data_prefix': {STR, DICT},
    **dict.fromkeys(['metainfo', 'filter_cfg'], {DICT, NONE}),
    'classes': {STR, STRS, NONE},
    'extensions': {STRS},
    'indices': {INT, INTS, NONE},
    'pipeline': {*LIST},
    **dict.fromkeys(['lazy_init', 'multi_label', 'serialize_data', 'test_mode'], {BOOL}),
    'with_label': {*POOL},  # mmpretrain has no annotation, any value counts as true or false
    **dict.fromkeys(['lengths', 'proposal_nums'], {INTS}),
    **dict.fromkeys(['part', 'seed'], {INT}),
    **dict.fromkeys(['ann_file', 'engine', 'outfile_prefix', 'prefix', 'file'], {STR, NONE}),
    **dict.fromkeys(['collect_device'], {STR}),
    'collect_dir': {STR, NONE},
    'metric': {STR, STRS},
    'digits': {INT, NONE},
    **dict.fromkeys(['classwise', 'format_only', 'sort_categories', 'use_mp_eval'], {BOOL}),
    'iou_thrs': {INT, FLOAT, INTS, FLOATS, NONE},
    'metric_items': {STRS, NONE},
    **dict.fromkeys(['backend_args', 'file_client_args'], {DICT, NONE}),
    'dtype': {NONE},
}
MORE = {  # where a name means something else in one class
    ('PyramidAttention', 'in_channels'): {INT, INTS},
    ('AWFPN', 'in_channels'): {INTS},
    ('SSDHead', 'in_channels'): {INTS},
    ('LearnToPayHead', 'in_channels'): {INTS},
    ('LearnToPayVGG', 'taps'): {INTS},
    ('LearnToPayVGG', 'depth'): {INT},
    ('ECA', 'kernel_size'): {INT, NONE},
    ('CBAM', 'kernel_size'): {INT},
    ('SpatialGate', 'kernel_size'): {INT},
    ('TDMobileNetV3', 'blocks'): {*LIST},
    ('TDMobileNetV3', 'arch'): {STR},
    ('TDMobileNetV3', 'steps'): {INT},
    ('WideResNet', 'widen_factor'): {INT},
    ('WideResNet', 'depth'): {INT},
    ('WideResNet', 'out_indices'): {INTS},
    ('MobileNetV1', 'out_indices'): {INTS},
    ('AttentionResNet', 'depth'): {INT},
    ('AttentionResNet', 'attention'): {*LIST},
    ('Attend', 'attention'): {*LIST},
    ('TDResNet', 'attention'): {STR, NONE},
    ('TDConvNeXt', 'attention'): {STR, NONE},
    ('TDMobileNetV3', 'attention'): {STR},
    ('MobileNetV1', 'norm_cfg'): {DICT, MIXED},
    ('ReportHead', 'init_cfg'): {DICT, NONE, MIXED},
    ('SSIA', 'model'): {DICT, NONE},
    ('SSIA', 'wrapped'): {STR, NONE},
    ('SSIA', 'data_preprocessor'): {DICT, NONE, MIXED},
    ('FcaNet', 'size'): {INT, NONE},
    ('StepAccuracy', 'topk'): {INTS},
    **{(name, 'ann_file'): {STR} for name in ('ImageNetV2', 'ImageNetSubset')},
}


@DATASETS.register_module(force=True)
class TenNumbers(BaseDataset):
    def __init__(self):
        super().__init__(serialize_data=False)

    def load_data_list(self):
        return [dict(number=number) for number in range(10)]


def class_of(name):
    return getattr(registry, OTHERS[name][0] if name in OTHERS else 'MODELS').get(name)


def names_of(name):
    """Arguments of a class that the tables know."""
    cls = class_of(name)
    known = argument_names(cls)
    return sorted(known & {*ALLOWED, *(key for owner, key in MORE if owner == name)})


def kinds_of(name, argument):
    return MORE.get((name, argument), ALLOWED.get(argument))


def mutate(rng, name):
    """A wrong call: options, and why they must be refused (``None``: they may be taken)."""
    options = dict(VALID[name])
    arguments = names_of(name)
    way = rng.random()
    if way < 0.15 and options:
        dropped = rng.choice(sorted(options))
        value = options.pop(dropped)
        misspelt = rng.choice([dropped + 's', dropped[:-1], dropped.upper(), dropped[::-1]])
        if rng.random() < 0.7 and misspelt not in arguments:
            options[misspelt] = value
            return options, f'{misspelt!r} is no argument'
        return options, None
    reason = None
    if not arguments:
        return {rng.choice(['interval', 'x', 'init']): rng.choice(POOL[INT])}, 'it has no argument'
    for argument in rng.sample(arguments, rng.choice([1, 1, 2][: len(arguments) + 1])):
        kind = rng.choice(sorted(POOL))
        options[argument] = rng.choice(POOL[kind])
        empty = kind == INTS and options[argument] == []
        wrong = kind not in kinds_of(name, argument)
        if wrong and not (empty and LIST & kinds_of(name, argument)):
            reason = f'{argument} takes no {kind}'
    return options, reason


_KINDS = (ValueError, TypeError, KeyError, ImportError, FileNotFoundError)


def is_ours(error):
    """Whether a sentence of ours is the error, or what the registry repeats."""
    chain = []
    while error is not None:
        chain.append(error)
        error = error.__cause__ or error.__context__
    for link in chain:
        frames = traceback.extract_tb(link.__traceback__)
        if not frames:
            continue
        last = frames[-1]
        if last.filename.startswith(PACKAGE) and (last.line or '').startswith('raise'):
            return isinstance(link, _KINDS)
    return False


def argument_names(built_by):
    arguments = mmattn.core.arguments
    known = arguments._signature if isinstance(built_by, type) else arguments._signature_of
    return set(known(built_by).kinds)


def attempt(rng, name):
    """One construction; what is wrong about the answer, or None."""
    options, reason = mutate(rng, name)
    torch.manual_seed(0)
    try:
        class_of(name)(**options)
    except Exception as error:
        if not is_ours(error):
            return f'{name}({options}): {type(error).__name__}: {str(error)[:120]}'
        return None
    return reason and f'{name}({options}) was taken although {reason}'


def fuzz(seed, number, every=False):
    """Attempts with classes in turn; what is wrong about each, or of all with ``every``."""
    rng = random.Random(seed)
    names = sorted(VALID)
    found = [attempt(rng, names[(seed * number + i) % len(names)]) for i in range(number)]
    return found if every else [failure for failure in found if failure]


def register_all():
    """Import everything that registers something; returns the names that are ours."""
    mmattn.register_all_modules()
    ours = set()
    for one in (registry.MODELS, registry.HOOKS, registry.METRICS, registry.DATASETS):
        one.import_from_location()
        ours |= {n for n, c in one.module_dict.items() if c.__module__[:7] == 'mmattn.'}
    return ours


@pytest.fixture(autouse=True)
def _hosts():
    pytest.importorskip('mmdet')
    pytest.importorskip('mmpretrain')


def test_every_registered_class_is_here():
    assert register_all() == set(VALID)


@pytest.mark.parametrize('name', sorted(VALID))
def test_the_valid_constructions_are_valid(name):
    class_of(name)(**VALID[name])


@pytest.mark.parametrize('name', sorted(VALID))
def test_every_argument_is_in_the_tables(name):
    known = argument_names(class_of(name))
    assert known <= {*ALLOWED, *(key for owner, key in MORE if owner == name)}


@pytest.mark.filterwarnings('ignore')
def test_wrong_arguments_end_in_a_sentence():
    assert fuzz(0, 340) == []


@pytest.mark.slow
@pytest.mark.filterwarnings('ignore')
def test_three_thousand_wrong_arguments():
    assert fuzz(1, 3000) == []
