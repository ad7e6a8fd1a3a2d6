"""Methods that take the place of a whole part, or stand around the model."""

import copy
import inspect

from mmengine.config import ConfigDict
from torch import nn

from mmattn.auxiliary.taps import stage_names
from mmattn.backbones._insert import AddedParts
from mmattn.insertion.attends import make_attend
from mmattn.insertion.networks import Network, is_attend, plain_type
from mmattn.insertion.request import Request, can_stand, exchange, need_part
from mmattn.insertion.resnets import FAMILY, from_mmpretrain
from mmattn.insertion.stages import stages_of

__all__ = ['TWINS', 'add_learn_to_pay', 'add_ssia', 'add_twin', 'is_ssd', 'repair_ssd']

# host -> its top-down twin
TWINS = {
    'ResNet': 'TDResNet',
    'ResNetV1d': 'TDResNet',
    'ConvNeXt': 'TDConvNeXt',
    'MobileNetV3': 'TDMobileNetV3',
}
# depth -> the network of TDAM's paper (of its released weights for 18 and 34)
TD_PRESETS = {
    18: 'r18-joint-t2m2',
    34: 'r34-joint-t2m2',
    50: 'r50-joint-t2m1',
    101: 'r101-joint-t2m1',
}
TD_ARCHS = ('tiny', 'small', 'base')  # ConvNeXts of the authors' code
_SHAPE = {'preset', 'steps', 'distance', 'attention', 'blocks'}  # what a preset says
SMALL_IMAGE = 512  # SSIA's grids come from such images as they are


def add_twin(network: Network, request: Request) -> None:
    """Put a top-down network in the place of the backbone it is a twin of.

    Raises:
        ValueError: there is no twin of the backbone, or it is one already.
    """
    part = need_part(network, 'backbone', request.name)
    kind = network.kind('backbone')
    if kind.__name__ in TWINS.values():
        raise ValueError(
            f'{request.name} cannot be added: the backbone is a {kind.__name__} already; gates '
            'and convolutions can stand in it'
        )
    if request.position is not None:
        raise ValueError(f'position has no meaning for {request.name}, got {request.position!r}')
    if kind.__name__ == 'AttentionResNet' and not is_attend(part):
        part = make_attend(network, 'backbone')
        network = Network(network.cfg)
        kind = network.kind('backbone')
    twin = TWINS.get(kind.__name__)
    if twin != request.name:
        known = ', '.join(f'{theirs} ({ours})' for theirs, ours in TWINS.items())
        raise ValueError(
            f'{request.name} cannot stand in the place of the backbone {kind.__name__}: TDAM has '
            f'twins of {known}; what can stand in it: {can_stand(network, "backbone")}'
        )
    number = len(stages_of(network.trace('backbone'))) if request.stages is not None else 0
    host = _host_config(part)
    changes = {key: value for key, value in request.cfg.items() if key != 'type'}
    if twin == 'TDResNet':
        _prepare_resnet(kind, host, changes)
    elif twin == 'TDConvNeXt' and not _SHAPE & set(changes):
        arch = host.get('arch', 'tiny')
        changes.update({'preset': f'{arch}-joint-t2m1'} if arch in TD_ARCHS else {})
    if number:
        chosen = request.chosen_stages(number, 'the backbone')
        changes['blocks'] = [None if stage in chosen else [] for stage in range(number)]
    exchange(host, f'mmattn.{twin}', changes)
    if is_attend(part):
        part['wrapped'] = host


def _host_config(part: ConfigDict) -> ConfigDict:
    """Return the config of the network itself; that of Attend's gets one of its own."""
    if not is_attend(part):
        return part
    if not isinstance(part['wrapped'], dict):
        own = ('type', 'wrapped', 'attention', 'sample', 'attention_norm_eval', '_scope_')
        host = {key: part.pop(key) for key in list(part) if key not in own}
        part['wrapped'] = dict(host, type=part['wrapped'])
    return part['wrapped']


def _prepare_resnet(kind: type, host: ConfigDict, changes: dict) -> None:
    if kind.__module__.startswith('mmpretrain'):
        found = from_mmpretrain(kind, host)
        if found is None:
            raise ValueError(
                'TDResNet cannot stand in the place of a ResNet of mmpretrain with '
                'drop_path_rate, expansion or deep_stem; every gate can stand in it'
            )
    else:
        found = FAMILY[kind.__name__]
    for key, value in found.items():
        changes.setdefault(key, value)
    preset = TD_PRESETS.get(host['depth'])
    if preset and not _SHAPE & set(changes) and host.get('num_stages', 4) == 4:
        changes['preset'] = preset


def add_learn_to_pay(network: Network, request: Request) -> None:
    """Learn-to-pay attention in the place of a classifier's neck and head.

    Raises:
        ValueError: the network is no classifier with a linear head on maps.
    """
    if not network.is_classifier:
        raise ValueError(
            'LearnToPayHead cannot stand here: it is a head of classifiers; in a detector '
            'LearnToPayGate can stand in the backbone'
        )
    head, backbone = network.part('head'), need_part(network, 'backbone', request.name)
    kind = network.kind('head').__name__
    if kind != 'LinearClsHead':
        why = 'it is one already' if kind == 'LearnToPayHead' else 'it replaces a LinearClsHead'
        raise ValueError(
            f'LearnToPayHead cannot stand in the place of the head {kind}: {why}; what can stand '
            f'in the backbone: {can_stand(network, "backbone")}'
        )
    ends = _ends_of_stages(network)
    chosen = ends[-3:]
    if request.stages is not None:
        chosen = [ends[stage] for stage in request.chosen_stages(len(ends), 'the backbone')]
    backbone['out_indices'] = tuple(chosen)
    if 'ConvNeXt' in network.kind('backbone').__name__:
        backbone['gap_before_final_norm'] = False
    traced = Network(network.cfg).trace('backbone')
    if len(traced.outputs) != len(chosen) or not traced.gives_maps:
        raise ValueError(
            f'LearnToPayHead cannot stand here: {network.kind("backbone").__name__} gives no '
            f'(N, C, H, W) maps of its stages {tuple(chosen)}; LearnToPayGate can stand in the '
            'backbone'
        )
    kept = {k: v for k, v in head.items() if k in ('num_classes', 'loss', 'topk', 'cal_acc')}
    widths = [shape[0] for shape in traced.outputs]
    head.clear()
    head.update({'type': request.cfg['type'], **kept, 'in_channels': widths, **request.cfg})
    network.model['neck'] = None


def _ends_of_stages(network: Network) -> list[int]:
    """Return the values of ``out_indices`` that give the last map of each size.

    MobileNets and EfficientNets count layers there, ResNets stages.
    """
    trial = copy.deepcopy(network.cfg)
    backbone = Network(trial).part('backbone')
    given = backbone.get('out_indices')
    if given is None:
        parameter = inspect.signature(network.kind('backbone').__init__).parameters
        given = parameter['out_indices'].default if 'out_indices' in parameter else None
    last = max(given) if isinstance(given, list | tuple) else given
    if isinstance(last, int) and last > 0:
        backbone['out_indices'] = tuple(range(last + 1))
        outputs = Network(trial).trace('backbone').outputs
        if len(outputs) == last + 1 and None not in outputs:
            ends = {shape[1:]: index for index, shape in enumerate(outputs)}
            return sorted(ends.values())
    return list(range(len(stages_of(network.trace('backbone'))) or 4))


def add_ssia(network: Network, request: Request) -> None:
    """SSIA around the model, its taps being the stages that train.

    Raises:
        ValueError: it is there already, another model is around, or there are no stages.
    """
    cfg = network.cfg
    around = [getattr(kind, '__name__', str(kind)).rpartition('.')[2] for kind in network.outer]
    if around:
        why = (
            'it stands around this model already; gates and convolutions can stand inside'
            if 'SSIA' in around
            else f'its losses would be lost inside a {around[0]}; gates and convolutions can '
            'stand in the backbone'
        )
        raise ValueError(f'SSIA cannot be added: {why}')
    own = dict(request.cfg)
    if 'taps' not in own:
        own['taps'], lambdas = _taps(network, request)
        if lambdas != tuple(range(1, len(lambdas) + 1)) and 'scheme' not in own:
            own.setdefault('lambdas', lambdas)
    if not network.is_classifier:
        own.setdefault('norm', 'LN')  # a process of a detector has few images
    if 'sample' not in own and max(network.size) < SMALL_IMAGE and network.size != (224, 224):
        own['sample'] = (3, *network.size)
    cfg.model = dict(type=own.pop('type'), model=cfg.model, **own)
    cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), dict(type='mmattn.SSIAHook')]


def _taps(network: Network, request: Request) -> tuple[tuple, tuple]:
    """Return the stages that train, from the lowest to the last, and the weights of the blocks.

    The paper's weights 1, 2 and 3 belong to the low maps C2, C3 and C4, whichever of them train.
    """
    traced = network.trace('backbone')
    ends = [stage.end for stage in stages_of(traced)]
    numbered = hasattr(traced.net, 'res_layers')
    sizes = {traced.shapes[end][1:] for end in ends if end}
    if None in ends or len(sizes) < 2:  # Swin, PVT, HRNet; the stacks of an Hourglass
        ends, numbered = stage_names(traced.net) if traced.gives_maps else [], True
    if len(ends) < 2:
        kind = network.kind('backbone').__name__
        why = traced.problem or 'no module of it gives the map of a stage'
        raise ValueError(
            f'SSIA cannot stand around this model: the backbone {kind} shows no stages ({why}); '
            'taps=(NAME, NAME, ...) names modules that give (N, C, H, W) maps'
        )
    net = traced.net
    net.train()  # which freezes; mmdet's ResNet returns nothing here
    new = net.added_parameters() if isinstance(net, AddedParts) else ()
    trains = {name for name, p in net.named_parameters() if p.requires_grad and name not in new}
    net.eval()
    moving = [number for number, end in enumerate(ends) if _moves(end, net, trains)]
    if request.stages is not None:
        moving = request.chosen_stages(len(ends), 'the backbone')
    moving = moving[-4:]  # the paper's three losses
    first = max(len(ends) - 4, 0)  # a network of five stages has one before C2
    lambdas = tuple(max(number - first, 0) + 1 for number in moving[:-1])
    if numbered:
        return tuple(moving), lambdas
    return tuple(f'backbone.{ends[number]}' for number in moving), lambdas


def _moves(end: str, net: nn.Module, trains: set) -> bool:
    """Whether a stage has a parameter that trains, or none at all (a lone activation)."""
    end = end.partition('[')[0]
    names = [f'{end}.{name}' for name, _ in net.get_submodule(end).named_parameters()]
    return not names or any(name in trains for name in names)


def is_ssd(network: Network) -> bool:
    """Whether the detector is SSD."""
    part = network.part('bbox_head')
    return part is not None and any(
        kind.__name__ == 'SSDHead' for kind in network.kind('bbox_head').__mro__
    )


def repair_ssd(network: Network) -> None:
    """mmdet's SSDHead cannot predict since 3.2: put ours in its place."""
    head = network.part('bbox_head')
    if head is None:
        return
    kind = plain_type(head)
    if getattr(kind, '__name__', kind) not in ('SSDHead', 'mmdet.SSDHead'):
        return
    if getattr(kind, '__module__', 'mmdet').partition('.')[0] == 'mmattn':
        return
    if not is_attend(head):
        head['type'] = 'mmattn.SSDHead'
    elif isinstance(head['wrapped'], dict):
        head['wrapped']['type'] = 'mmattn.SSDHead'
    else:
        head['wrapped'] = 'mmattn.SSDHead'
