"""Which methods there are, and the place that each one's paper gives it."""

from typing import NamedTuple

from torch import nn

from mmattn.core.names import did_you_mean
from mmattn.layers._gate import Gate
from mmattn.registry import MODELS

__all__ = ['METHODS', 'Method', 'find_method', 'method_list']


class Method(NamedTuple):
    """A row of the table.

    Args:
        name: the registered name.
        kind: how it enters a network: ``'gate'``, ``'conv'``, ``'neck'``, ``'twin'`` (a backbone
            in the place of another), ``'head'`` or ``'model'``.
        sentence: what it does.
        place: where its paper has it, in words.
        position: of a gate, a key of :data:`POSITIONS`.
        stages: of its natural stages, as a slice of those of the network; counted from the end,
            since networks differ in how many stages they have before stride 4.
        block: which block of a stage, where it is one; ``None`` for all.
        options: what it gets where nobody says otherwise.
    """

    name: str
    kind: str
    sentence: str
    place: str
    position: str = ''
    stages: slice = slice(None)
    block: int | None = None
    options: dict = {}


# position -> in words
POSITIONS = {
    'branch': "at the end of a block's residual branch, before the addition",
    'after_conv1': 'after the first convolution of a block, its norm and activation',
    'after_conv2': 'after the second convolution of a block, its norm and activation',
    'after_conv3': 'after the third convolution of a block and its norm',
    'before_norm2': 'between the second convolution of a block and its norm',
    'after_add': 'after a block',
    'after_stage': 'after a stage',
    'outputs': 'on output maps',
}

_BRANCH = 'end of the residual branch of every block'
_LAST = 'after the last stage (C5)'
_THREE = slice(-3, None)
_TOP = slice(-1, None)
_CONV = 'after the 3x3 convolution of every block, before its norm'
METHODS = (
    Method('SE', 'gate', 'gates channels by their global averages', _BRANCH, 'branch'),
    Method('CBAM', 'gate', 'gates channels, then positions', _BRANCH, 'branch'),
    Method('SpatialGate', 'gate', "gates positions: CBAM's second half", _BRANCH, 'branch'),
    Method('ECA', 'gate', 'gates channels by a 1-D convolution across them', _BRANCH, 'branch'),
    Method(
        'FcaNet', 'gate', 'SE that pools 16 frequencies instead of the average', _BRANCH, 'branch'
    ),
    Method(
        'GlobalContext',
        'gate',
        'adds one attended summary of the map at every position',
        'end of the residual branch of every block of C3 to C5',
        'branch',
        _THREE,
    ),
    Method(
        'SimAM',
        'gate',
        "gates every value by its distance from its channel's mean; no parameters",
        _CONV,
        'before_norm2',
        options=dict(lam=0.1),
    ),
    Method(
        'ConvAutoencoderAttention',
        'gate',
        'gates every value by a convolutional autoencoder of the map',
        _CONV,
        'before_norm2',
    ),
    Method(
        'LinearAutoencoderAttention',
        'gate',
        'gates every value by an autoencoder of its row',
        _CONV,
        'before_norm2',
        options=dict(width=64),
    ),
    Method(
        'Sequence',
        'gate',
        'several gates one after the other, as one gate (gates=[...])',
        'where its first gate belongs',
        'branch',
    ),
    Method(
        'BAM',
        'gate',
        'gates by channel and dilated spatial logits together',
        'after every stage but the last (C2, C3, C4)',
        'after_stage',
        slice(-4, -1),
    ),
    Method(
        'NonLocal',
        'gate',
        'adds to each position a weighted mean of all',
        'before the last block of C4: on the output of the last but one',
        'after_add',
        slice(-2, -1),
        -2,
    ),
    Method(
        'DualAttention',
        'gate',
        'position and channel attention side by side (DANet)',
        _LAST,
        'after_stage',
        _TOP,
    ),
    Method('PositionAttention', 'gate', "DANet's position half", _LAST, 'after_stage', _TOP),
    Method('ChannelAttention', 'gate', "DANet's channel half", _LAST, 'after_stage', _TOP),
    Method(
        'SpatialWeights',
        'gate',
        'one unbounded weight for each position (full-face)',
        _LAST,
        'after_stage',
        _TOP,
    ),
    Method(
        'PyramidAttention',
        'gate',
        'queries of one map, keys of a pyramid of maps',
        _LAST,
        'after_stage',
        _TOP,
    ),
    Method(
        'LearnToPayGate',
        'gate',
        'weighs positions by a softmax over their scores (learn to pay attention)',
        'after C3, C4 and C5',
        'after_stage',
        _THREE,
    ),
    Method(
        'AWConv2d',
        'conv',
        "scales a convolution's weights, image by image",
        'every 3x3 convolution of the blocks; in SSD its extra layers and its predictors',
    ),
    Method(
        'AAConv2d',
        'conv',
        'takes some channels of a convolution from self-attention',
        'every 3x3 convolution of the blocks of C4 and C5',
        stages=slice(-2, None),
    ),
    Method(
        'AWFPN',
        'neck',
        'feature pyramid of AW-convolutions',
        "every convolution of the neck (in SSD's: of the extra layers)",
    ),
    Method(
        'TDResNet',
        'twin',
        "TDAM: feeds the top of a block back to its bottom; a ResNet's twin",
        'the blocks of C4 and C5, in the place of the ResNet',
    ),
    Method(
        'TDConvNeXt',
        'twin',
        "TDAM: a ConvNeXt's twin",
        'the blocks of C4 and C5, in the place of the ConvNeXt',
    ),
    Method(
        'TDMobileNetV3',
        'twin',
        "TDAM: a MobileNetV3's twin",
        'the last three blocks, in the place of their SE',
    ),
    Method(
        'LearnToPayHead',
        'head',
        'classifies from sums of several maps weighed by attention, as in the paper',
        'a classifier: in the place of its neck and head, on C3, C4 and C5',
    ),
    Method(
        'SSIA',
        'model',
        'adds losses while a model trains, low maps predicting high ones',
        'around the whole model, from the first stage that trains to the last',
    ),
)

# what people say -> the registered name; the two that depend on the network are in insert.py
ALIASES = {
    'aw': 'AWConv2d',
    'awconv': 'AWConv2d',
    'aa': 'AAConv2d',
    'aaconv': 'AAConv2d',
    'fca': 'FcaNet',
    'gc': 'GlobalContext',
    'gcnet': 'GlobalContext',
    'senet': 'SE',
    'ecanet': 'ECA',
    'danet': 'DualAttention',
    'fullface': 'SpatialWeights',
    'learntopay': 'LearnToPay',
    'tdam': 'TDAM',
}
FOR_NETWORK = ('TDAM', 'LearnToPay')  # stand for a twin of the backbone; for a gate or a head


def find_method(name: str) -> Method:
    """Return the row of a name, which may have a scope, hyphens, and another case.

    A gate or convolution that is registered but has no row (yours) gets one: the place of SE, or
    of AW-convolution.

    Raises:
        TypeError: the name is no text.
        ValueError: no method of that name.
    """
    if not isinstance(name, str) or not name:
        raise TypeError(f'method must be a name such as "SE", or a dict with a type, got {name!r}')
    scope, _, short = name.rpartition('.')
    key = short.lower().replace('-', '').replace('_', '').replace(' ', '')
    rows = {method.name.lower(): method for method in METHODS}
    if scope in ('', 'mmattn'):
        found = ALIASES.get(key, key)
        if found in FOR_NETWORK:
            return Method(found, 'choice', '', '')
        if found.lower() in rows:
            return rows[found.lower()]
    kind = _registered(name)
    if kind is not None and issubclass(kind, nn.Conv2d):
        return rows['awconv2d']._replace(name=name, sentence=_first_line(kind), options={})
    if kind is not None and (scope not in ('', 'mmattn') or issubclass(kind, Gate)):
        return rows['se']._replace(name=name, sentence=_first_line(kind))
    names = [*(row.name for row in METHODS), 'TDAM']
    what = 'is no method to add' if kind is not None else 'is not known'
    hint = did_you_mean(key, names, n=3, sep='') if kind is None else ''
    hint = hint or 'the methods are ' + ', '.join(names)
    raise ValueError(f'method {name!r} {what}; {hint}')


def _registered(name: str) -> type | None:
    """Return the class of a name, of whatever scope; ``None`` where there is none."""
    scope, _, short = name.rpartition('.')
    if scope in ('', 'mmattn'):
        MODELS.import_from_location()
        return MODELS.module_dict.get(short)
    try:
        kind = MODELS.get(name)
    except (KeyError, ImportError):
        return None
    return kind if isinstance(kind, type) and issubclass(kind, nn.Module) else None


def _first_line(kind: type) -> str:
    return (kind.__doc__ or kind.__name__).strip().split('\n')[0].rstrip('.')


def method_list() -> str:
    """Every method with its natural place and a sentence, as lines of text."""
    width = max(len(method.name) for method in METHODS)
    lines = []
    for method in METHODS:
        lines += [f'{method.name:<{width}}  {method.sentence}', f'{"":<{width}}  {method.place}']
    return '\n'.join(lines)
