"""Methods that take the place of a whole part, or stand around the model."""

from mmengine.config import ConfigDict
from torch import nn

from mmattn.backbones._insert import AddedParts
from mmattn.insertion.attends import make_attend
from mmattn.insertion.networks import Network, Stage, is_attend, plain_type, stages_of
from mmattn.insertion.resnets import FAMILY, from_mmpretrain
from mmattn.insertion.wish import Wish, exchange, need_part

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


def add_twin(network: Network, wish: Wish) -> None:
    """Put a top-down network in the place of the backbone it is a twin of.

    Raises:
        ValueError: there is no twin of the backbone, or it is one already.
    """
    part = need_part(network, 'backbone', wish.name)
    kind = network.kind('backbone')
    if kind.__name__ in TWINS.values():
        raise ValueError(
            f'{wish.name} cannot be added: the backbone is a {kind.__name__} already; gates and '
            'convolutions can stand in it'
        )
    if wish.position is not None:
        raise ValueError(f'position has no meaning for {wish.name}, got {wish.position!r}')
    if kind.__name__ == 'AttentionResNet' and not is_attend(part):
        part = make_attend(network, 'backbone')
        network = Network(network.cfg)
        kind = network.kind('backbone')
    twin = TWINS.get(kind.__name__)
    if twin != wish.name:
        known = ', '.join(f'{theirs} ({ours})' for theirs, ours in TWINS.items())
        raise ValueError(
            f'{wish.name} cannot stand in the place of the backbone {kind.__name__}: TDAM has '
            f'twins of {known}; every gate can stand in the backbone'
        )
    number = len(stages_of(network.trace('backbone'))) if wish.stages is not None else 0
    host = _host_config(part)
    changes = {key: value for key, value in wish.cfg.items() if key != 'type'}
    if twin == 'TDResNet':
        _prepare_resnet(kind, host, changes)
    elif twin == 'TDConvNeXt' and not _SHAPE & set(changes):
        arch = host.get('arch', 'tiny')
        changes.update({'preset': f'{arch}-joint-t2m1'} if arch in TD_ARCHS else {})
    if number:
        chosen = wish.chosen_stages(number, 'the backbone')
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


def add_learn_to_pay(network: Network, wish: Wish) -> None:
    """Learn-to-pay attention in the place of a classifier's neck and head.

    Raises:
        ValueError: the network is no classifier with a linear head on maps.
    """
    if not network.is_classifier:
        raise ValueError(
            'LearnToPayHead cannot stand here: it is a head of classifiers; in a detector '
            'LearnToPayGate can stand in the backbone'
        )
    head, backbone = network.part('head'), need_part(network, 'backbone', wish.name)
    kind = network.kind('head').__name__
    if kind != 'LinearClsHead':
        why = 'it is one already' if kind == 'LearnToPayHead' else 'it replaces a LinearClsHead'
        raise ValueError(
            f'LearnToPayHead cannot stand in the place of the head {kind}: {why}; LearnToPayGate '
            'can stand in the backbone'
        )
    number = len(stages_of(network.trace('backbone'))) or 4
    chosen = list(range(number))[-3:]
    if wish.stages is not None:
        chosen = wish.chosen_stages(number, 'the backbone')
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
    head.update({'type': wish.cfg['type'], **kept, 'in_channels': widths, **wish.cfg})
    network.model['neck'] = None


def add_ssia(network: Network, wish: Wish) -> None:
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
    own = dict(wish.cfg)
    if 'taps' not in own:
        own['taps'] = _taps(network, wish)
    if not network.is_classifier:
        own.setdefault('norm', 'LN')  # a process of a detector has few images
    if 'sample' not in own and max(network.size) < SMALL_IMAGE and network.size != (224, 224):
        own['sample'] = (3, *network.size)
    cfg.model = dict(type=own.pop('type'), model=cfg.model, **own)
    cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), dict(type='mmattn.SSIAHook')]


def _taps(network: Network, wish: Wish) -> tuple:
    """Return the stages that train, from the lowest to the last."""
    traced = network.trace('backbone')
    stages = stages_of(traced)
    if not all(stage.end for stage in stages) or len(stages) < 2:
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
    moving = [number for number, stage in enumerate(stages) if _moves(stage, net, trains)]
    if wish.stages is not None:
        moving = wish.chosen_stages(len(stages), 'the backbone')
    moving = moving[-4:]  # the paper's three losses
    if hasattr(net, 'res_layers'):
        return tuple(moving)
    return tuple(f'backbone.{stages[number].end}' for number in moving)


def _moves(stage: Stage, net: nn.Module, trains: set) -> bool:
    """Whether a stage has a parameter that trains, or none at all (a lone activation)."""
    names = [f'{stage.end}.{name}' for name, _ in net.get_submodule(stage.end).named_parameters()]
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
