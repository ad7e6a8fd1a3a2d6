"""One call puts any method into any config: :func:`add_attention`."""

import copy
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mmengine.config import Config, ConfigDict
from mmengine.hub import get_config

from mmattn.backbones._insert import AddedParts
from mmattn.core.hosts import require_host
from mmattn.core.identity import INITS
from mmattn.insertion.methods import POSITIONS, Method, find_method
from mmattn.insertion.networks import (
    HOSTS,
    Network,
    Stage,
    Traced,
    class_of,
    is_plain_conv,
    pattern_of,
    plain_type,
    stages_of,
)
from mmattn.insertion.report import attach, describe

__all__ = ['add_attention', 'read_config']

PLACES = ('backbone', 'neck', 'head', 'model')
# mmdet classes that AttentionResNet stands for, and what that takes
RESNETS = {
    'ResNet': {},
    'ResNetV1d': dict(deep_stem=True, avg_down=True),
    'ResNeXt': {},
    'AttentionResNet': {},
}
# depth -> the network of TDAM's paper (for 18 and 34 of its released weights)
TD_PRESETS = {
    18: 'r18-joint-t2m2',
    34: 'r34-joint-t2m2',
    50: 'r50-joint-t2m1',
    101: 'r101-joint-t2m1',
}
TWINS = {'ResNet': 'TDResNet', 'ResNetV1d': 'TDResNet', 'ConvNeXt': 'TDConvNeXt'}
TWINS['MobileNetV3'] = 'TDMobileNetV3'


class _Wish(NamedTuple):
    """What is to be added once: the method's row, its config, and where."""

    method: Method
    cfg: dict
    where: str
    stages: Sequence | None
    position: str | None

    @property
    def name(self) -> str:
        return self.cfg['type'].removeprefix('mmattn.')


def add_attention(
    cfg: Config | str | Path,
    method: str | dict | Sequence,
    where: str | Sequence | None = None,
    stages: Sequence | int | None = None,
    position: str | None = None,
    init: str | None = None,
    **options,
) -> Config:
    """A config with attention in it: any method in any detector or classifier.

    Every method has a place that its paper gives it (``python tools/add_attention.py --list``);
    ``where``, ``stages`` and ``position`` choose another. What the config has (``plugins``,
    ``dcn``, ``conv_cfg``, pixel decoders) stays.

    Args:
        cfg: a config, its file, or a name such as
            ``'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'`` (or ``'mmpretrain::...'``).
        method: a registered name with or without its scope (``'SE'``, ``'mmattn.SE'``;
            ``'TDAM'`` takes the twin of the config's backbone), a dict with options
            (``dict(type='SE', reduction=8)``), or a list of these, added in their order.
        where: ``'backbone'``, ``'neck'``, ``'head'`` (all heads), ``'model'``, one head by its
            name in the config (``'roi_head.mask_head'``), or a list of these.
        stages: of a backbone, counted from 0, or a bool for each; of a neck, its output maps.
        position: ``'branch'``, ``'after_conv1'``, ``'after_conv2'``, ``'after_conv3'``,
            ``'before_norm2'``, ``'after_add'``, ``'after_stage'``, ``'outputs'``, or a regular
            expression for the names of modules.
        init: ``'identity'``, ``'paper'`` (:mod:`mmattn.core.identity`), or ``None``: identity
            where the network starts from weights, paper from scratch.
        options: of the method.

    Returns:
        A new config. Its entry ``mmattn`` says what was added (:func:`mmattn.report`).

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: an unknown method; a place that the network lacks or where the method cannot
            stand; a method added twice; a bad option. The sentence says what can stand there.
        FileNotFoundError: no such config.
    """
    new = copy.deepcopy(read_config(cfg))
    if init is not None and init not in INITS:
        raise ValueError(f'init must be one of {INITS} or None, got {init!r}')
    methods = [method] if isinstance(method, str | dict) else method
    if not isinstance(methods, Sequence) or not methods:
        raise TypeError(f'method must be a name, a dict or a list of these, got {method!r}')
    if options and len(methods) > 1:
        raise ValueError(
            f'options belong to one method: write dict(type=..., {next(iter(options))}=...) in '
            f'the list, got {sorted(options)} for {len(methods)} methods'
        )
    chosen, reason = (init, 'as asked') if init else choose_init(new)
    for one in methods:
        _add_one(new, one, where, stages, position, (chosen, init is not None), options)
    attach(new, describe(methods), chosen, reason)
    return new


def read_config(cfg: Config | str | Path) -> Config:
    """A config from whatever :func:`add_attention` takes.

    Raises:
        TypeError: it is something else.
        FileNotFoundError: no such file.
        ValueError: it has no model.
    """
    if isinstance(cfg, str | Path):
        name = str(cfg)
        package, _, path = name.partition('::')
        if path and package in HOSTS:
            require_host(package)  # the hub would install a missing one
            try:
                cfg = get_config(name)
            except FileNotFoundError as error:
                raise FileNotFoundError(f'cfg: {package} has no config {path!r}') from error
        elif Path(name).is_file():
            cfg = Config.fromfile(name)
        else:
            raise FileNotFoundError(f'cfg: {name} does not exist (looked from {Path.cwd()})')
    if not isinstance(cfg, Config):
        raise TypeError(f'cfg must be a Config, a file or a name, got {type(cfg).__name__}')
    if not isinstance(cfg.get('model'), dict):
        raise ValueError('cfg: the config has no model')
    return cfg


def choose_init(cfg: Config) -> tuple[str, str]:
    """The start of new parts, and why: identity where the network starts from weights."""
    if cfg.get('load_from'):
        return 'identity', f'the network starts from load_from={cfg.load_from!r}'
    start = _pretrained(cfg.model)
    if start:
        return 'identity', f'the network starts from weights ({start})'
    return (
        'paper',
        'the network starts from scratch (no init_cfg of type Pretrained, no load_from)',
    )


def _pretrained(cfg) -> str | None:
    """The first checkpoint that some part of a model starts from."""
    if isinstance(cfg, dict):
        if str(cfg.get('type')).endswith('Pretrained'):
            return str(cfg.get('checkpoint'))
        if isinstance(cfg.get('pretrained'), str):
            return cfg['pretrained']
        cfg = list(cfg.values())
    if isinstance(cfg, list | tuple):
        return next(filter(None, map(_pretrained, cfg)), None)
    return None


def _add_one(cfg: Config, method, where, stages, position, init: tuple, options: dict) -> None:
    """Add one method at all places it is wanted at."""
    given = dict(method) if isinstance(method, dict) else dict(type=method)
    kind = given.pop('type', None)
    row = find_method(kind)
    network = Network(cfg)
    row = _settle(row, network)
    options = {**given, **options}
    if row.name == 'Sequence':
        row = _as_first_gate(row, options)
    for place in _where(row, where, network):
        own = _with_defaults(row, options, init, network)
        wish = _Wish(row, own, place, stages, position)
        _ADD[row.kind](cfg, wish)
    _mend_ssd(Network(cfg))


def _settle(row: Method, network: Network) -> Method:
    """The method that a name stands for in this network."""
    if row.name == 'TDAM':
        kind = network.kind(_need_part(network, 'backbone', 'TDAM'))
        twin = next((TWINS[k.__name__] for k in kind.__mro__[:1] if k.__name__ in TWINS), None)
        return find_method(twin or 'TDResNet')
    if row.name == 'LearnToPay':
        return find_method('LearnToPayHead' if network.is_classifier else 'LearnToPayGate')
    return row


def _as_first_gate(row: Method, options: dict) -> Method:
    gates = options.get('gates') or ()
    first = gates[0].get('type') if gates and isinstance(gates[0], dict) else None
    if first is None:
        return row
    like = find_method(first)
    return row._replace(position=like.position, stages=like.stages, block=like.block)


def _where(row: Method, where, network: Network) -> list[str]:
    """The parts of the network a method goes into."""
    allowed = {
        'gate': ('backbone', 'neck', 'head'),
        'conv': ('backbone', 'neck', 'head'),
        'neck': ('neck',),
        'twin': ('backbone',),
        'head': ('head',),
        'model': ('model',),
    }[row.kind]
    if where is None:
        where = allowed[0]
        if row.kind == 'conv' and row.name == 'AWConv2d' and _is_ssd(network):
            where = ['neck', 'bbox_head']
    places = [where] if isinstance(where, str) else where
    if not isinstance(places, Sequence) or not places:
        raise TypeError(f'where must be one of {PLACES} or a list of these, got {where!r}')
    found = []
    for place in places:
        heads = network.heads()
        if place not in PLACES and place not in heads:
            names = (*PLACES, *heads)
            raise ValueError(f'where must be one of {names}, got {place!r}')
        general = 'head' if place in heads else place
        if general not in allowed:
            raise ValueError(
                f'where: {row.name} goes into the {allowed[0]}'
                f'{"" if len(allowed) == 1 else " (or " + ", ".join(allowed[1:]) + ")"}, '
                f'got {place!r}; what can stand in the {place}: {_can_stand(general)}'
            )
        found.append(place)
    return found


def _can_stand(place: str) -> str:
    return {
        'backbone': 'every gate, AWConv2d, AAConv2d and TDAM',
        'neck': 'AWFPN, AWConv2d, AAConv2d and every gate',
        'head': 'AWConv2d, AAConv2d and every gate; LearnToPayHead in a classifier',
        'model': 'SSIA',
    }[place]


def _need_part(network: Network, place: str, name: str) -> ConfigDict:
    part = network.part(place)
    if part is None:
        has = ', '.join(network.names())
        raise ValueError(
            f'where: this network has no {place}, so {name} cannot stand there; it has {has}'
        )
    return part


def _with_defaults(row: Method, options: dict, init: tuple, network: Network) -> dict:
    """The method's config: its type with scope, its options, its start."""
    name = row.name if '.' in row.name else f'mmattn.{row.name}'
    own = dict(type=name, **{**row.options, **options})
    if row.name == 'AWConv2d' and not network.is_classifier:
        own.setdefault('norm', 'SyncBN')  # a process of a detector has few images
    if row.name == 'AAConv2d' and 'map_size' not in own:
        own['map_size'] = tuple(max(side // 32, 1) for side in network.size)
    start, asked = init
    if row.kind in ('neck', 'model') or 'init' in own:
        return own
    kind = class_of(name, network.scope)
    if 'init' not in inspect.signature(kind.__init__).parameters:
        if asked and start == 'identity':
            raise ValueError(f'init: {row.name} has no identity start, got init={start!r}')
        return own
    if start == 'identity':
        own['init'] = start
    return own


# ------------------------------------------------------------------------------ gates and convs


def _add_gate(cfg: Config, wish: _Wish) -> None:
    network = Network(cfg)
    if wish.where == 'backbone':
        part = _need_part(network, 'backbone', wish.name)
        if _becomes_attention_resnet(network, part, wish):
            _gate_in_resnet(network, part, wish)
        else:
            _gate_in_backbone(network, part, wish)
    elif wish.where == 'neck':
        _gate_in_neck(network, _need_part(network, 'neck', wish.name), wish)
    else:
        _in_heads(network, wish, _gate_in_head)


def _add_conv(cfg: Config, wish: _Wish) -> None:
    network = Network(cfg)
    if wish.where == 'backbone':
        part = _need_part(network, 'backbone', wish.name)
        if _becomes_attention_resnet(network, part, wish):
            _conv_in_resnet(network, part, wish)
        else:
            _conv_in_backbone(network, part, wish)
    elif wish.where == 'neck':
        _conv_in_neck(network, _need_part(network, 'neck', wish.name), wish)
    else:
        _in_heads(network, wish, _conv_in_head)


def _in_heads(network: Network, wish: _Wish, add) -> None:
    """In one head, or in each that has a place."""
    if wish.where != 'head':
        add(network, wish.where, wish)
        return
    problems = []
    for name in network.heads():
        try:
            add(network, name, wish)
        except ValueError as error:
            problems.append(error)
    if len(problems) == len(network.heads()):
        if problems:
            raise problems[0]
        _need_part(network, 'head', wish.name)


# ------------------------------------------------------------------- the ResNet family of mmdet


def _becomes_attention_resnet(network: Network, part: ConfigDict, wish: _Wish) -> bool:
    """Make the backbone an AttentionResNet where one can stand for it and does what is wished."""
    if _is_attend(part) or wish.position not in (None, *POSITIONS) or wish.position == 'outputs':
        return False
    kind = network.kind(part)
    if kind.__name__ == 'AttentionResNet':
        return True
    from mmattn.backbones.attention_resnet import ResNet as HostResNet

    host = kind.__module__.partition('.')[0]
    if host == 'mmdet' and kind.__name__ in RESNETS and issubclass(kind, HostResNet):
        changes = RESNETS[kind.__name__]
    elif host == 'mmpretrain' and kind.__name__ in ('ResNet', 'ResNeXt'):
        changes = _from_mmpretrain(kind, part)
        if changes is None:
            return False
    else:
        return False
    _exchange(part, 'mmattn.AttentionResNet', changes)
    return True


def _from_mmpretrain(kind: type, part: ConfigDict) -> dict | None:
    """What mmdet's ResNet needs to be mmpretrain's; ``None`` where it cannot."""
    if part.get('drop_path_rate') or part.get('expansion') or part.get('deep_stem'):
        return None
    part.pop('drop_path_rate', None)
    part.pop('expansion', None)
    changes = {}
    if kind.__name__ == 'ResNeXt':
        changes['groups'] = part.pop('groups', 32)
        changes['base_width'] = part.pop('width_per_group', 4)
    own = inspect.signature(kind.__init__).parameters
    host = inspect.signature(class_of('mmdet.ResNet', 'mmdet').__init__).parameters
    from_base = inspect.signature(class_of('mmpretrain.ResNet', 'mmpretrain').__init__).parameters
    for name, parameter in {**from_base, **own}.items():
        default = parameter.default
        if name in host and name not in part and name != 'init_cfg':
            theirs = host[name].default
            if default is not inspect.Parameter.empty and default != theirs:
                changes[name] = default
    return changes


def _exchange(part: ConfigDict, kind: str, changes: dict) -> None:
    """Another class for a part, which keeps its other settings and their order."""
    old = dict(part.items())
    part.clear()
    part.update({**old, 'type': kind, **{k: v for k, v in changes.items() if k not in old}})


def _gate_in_resnet(network: Network, part: ConfigDict, wish: _Wish) -> None:
    number = part.get('num_stages', 4)
    position = wish.position or wish.method.position
    if position == 'branch':
        position = 'after_conv2' if part['depth'] in (18, 34) else 'after_conv3'
    rule = dict(gate=wish.cfg, position=position)
    stages = _stages(wish, number, 'the backbone')
    if position != 'after_stage' and wish.method.block is not None and wish.position is None:
        rule['blocks'] = {stage: [_block(part, stage, wish.method.block)] for stage in stages}
    elif len(stages) < number:
        rule['stages'] = tuple(stages)
    rules = list(part.get('attention') or [])
    for old in rules:
        _refuse_twice(old, rule, 'position', 'the backbone')
    part['attention'] = [*rules, rule]


def _block(part: ConfigDict, stage: int, block: int) -> int:
    depths = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
    depths |= {101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
    return max(block, -depths[part['depth']][stage])


def _conv_in_resnet(network: Network, part: ConfigDict, wish: _Wish) -> None:
    if part.get('conv2') is not None:
        raise ValueError(
            f'{wish.name} cannot be added: the 3x3 convolutions of the backbone are '
            f'{part["conv2"]["type"]} already; gates can still stand there'
        )
    number = part.get('num_stages', 4)
    stages = _stages(wish, number, 'the backbone')
    if part.get('dcn'):
        deformed = part.get('stage_with_dcn', (False,) * number)
        stages = [stage for stage in stages if not deformed[stage]]
        if not stages:
            raise ValueError(
                f'{wish.name} cannot stand in the backbone: its 3x3 convolutions are deformable '
                '(dcn); gates can stand there'
            )
    part['conv2'] = wish.cfg
    if len(stages) < number:
        part['conv2_stages'] = tuple(stages)


def _refuse_twice(old: dict, new: dict, key: str, where: str) -> None:
    if 'gate' not in old or old['gate']['type'] != new['gate']['type']:
        return
    same = [old.get(k) for k in (key, 'stages', 'blocks', 'levels')]
    if same[0] == new.get(key) and _overlap(old, new):
        raise ValueError(
            f'{new["gate"]["type"]} stands in {where} already ({key}={same[0]!r}); another '
            'position, other stages or another method can be added'
        )


def _overlap(old: dict, new: dict) -> bool:
    def wanted(rule: dict) -> set | None:
        for key in ('stages', 'levels', 'blocks'):
            if rule.get(key) is not None:
                return set(rule[key])
        return None

    ours, theirs = wanted(old), wanted(new)
    return ours is None or theirs is None or bool(ours & theirs)


def _stages(wish: _Wish, number: int, what: str) -> list[int]:
    """The stages of a wish, as indices from 0."""
    stages = wish.stages
    if stages is None:
        return list(range(number))[wish.method.stages] or [number - 1]
    chosen = [stages] if isinstance(stages, int) and not isinstance(stages, bool) else stages
    if isinstance(chosen, Sequence) and not isinstance(chosen, str) and chosen:
        if all(isinstance(stage, bool) for stage in chosen) and len(chosen) == number:
            return [stage for stage, wanted in enumerate(chosen) if wanted]
        whole = all(isinstance(s, int) and not isinstance(s, bool) for s in chosen)
        if whole and all(s in range(-number, number) for s in chosen):
            return sorted({s % number for s in chosen})
    raise ValueError(
        f'stages of {what} must be a list of indices from 0 to {number - 1} or of {number} '
        f'booleans, got {stages!r}'
    )


# ------------------------------------------------------------------------- any backbone: Attend


def _is_attend(part: ConfigDict) -> bool:
    kind = part['type']
    return kind == 'mmattn.Attend' or getattr(kind, '__name__', '') == 'Attend'


def _attend(network: Network, part: ConfigDict) -> ConfigDict:
    """Make a part an Attend around itself, without a rule yet."""
    if _is_attend(part):
        return part
    kind = part['type']
    scope = part.get('_scope_') or network.scope
    if isinstance(kind, str) and '.' not in kind and scope != 'mmdet':
        kind = f'{scope}.{kind}'
    old = dict(part.items())
    part.clear()
    if 'attention' in old or 'sample' in old:  # arguments of the network, not of Attend
        part.update(dict(type='mmattn.Attend', wrapped=dict(old, type=kind)))
    else:
        part.update({**old, 'type': 'mmattn.Attend', 'wrapped': kind})
    part['attention'] = []
    return part


def _rule(network: Network, part: ConfigDict, rule: dict, where: str) -> None:
    key = next(k for k in ('after', 'replace', 'levels', 'gate') if k in rule)
    _attend(network, part)
    for old in part['attention']:
        if 'gate' in rule:
            _refuse_twice(old, rule, key if key != 'gate' else 'after', where)
    part['attention'] = [*part['attention'], rule]


def _gate_in_backbone(network: Network, part: ConfigDict, wish: _Wish) -> None:
    traced = network.trace('backbone')
    if wish.position not in (None, *POSITIONS):
        _rule(network, part, dict(gate=wish.cfg, after=wish.position), 'the backbone')
        return
    if traced.problem:
        raise ValueError(
            f'{wish.name} cannot be placed: the backbone does not run here ({traced.problem}); '
            'position=REGEX names modules'
        )
    position = wish.position or wish.method.position
    stages = stages_of(traced)
    names = []
    if position != 'outputs' and stages:
        chosen = [stages[i] for i in _stages(wish, len(stages), 'the backbone')]
        block = wish.method.block if wish.position is None else None
        names = [name for stage in chosen for name in _places_in(stage, position, block)]
    if names:
        after = pattern_of(names, _own_names(traced.net))
        _rule(network, part, dict(gate=wish.cfg, after=after), 'the backbone')
        _fix_sample(network, part, traced)
        return
    if wish.position not in (None, 'outputs', 'after_stage'):
        raise ValueError(
            f'position: the backbone {network.kind(part).__name__} has no such place, got '
            f'{wish.position!r}; gates can stand on its output maps (position="outputs") or after '
            'modules (position=REGEX)'
        )
    _gate_on_outputs(network, part, wish, network.read_levels(), 'backbone')


def _fix_sample(network: Network, part: ConfigDict, traced: Traced) -> None:
    """A network with fully connected layers takes images of one size only."""
    if network.is_classifier and traced.outputs and None in traced.outputs:
        part['sample'] = (3, *network.size)


def _own_names(net) -> list:
    return [name for name, _ in net.named_modules() if name and not name.startswith('attend')]


def _places_in(stage: Stage, position: str, block: int | None) -> list:
    """The modules of a stage that a gate of this position comes after."""
    if position == 'after_stage' or not stage.blocks:
        return [stage.end] if stage.end else []
    names = stage.blocks if position == 'after_add' else stage.branches
    if block is not None:
        names = [names[max(block, -len(names))]]
    return names


def _gate_on_outputs(
    network: Network, part: ConfigDict, wish: _Wish, read: list, where: str
) -> None:
    maps = network.trace(where).outputs
    if not read or any(maps[level] is None for level in read):
        raise ValueError(
            f'{wish.name} cannot stand in the {where}: {network.kind(part).__name__} gives no '
            '(N, C, H, W) maps'
        )
    if wish.stages is None and where == 'backbone':
        levels = read[wish.method.stages] or read[-1:]
    elif wish.stages is None:
        levels = read
    else:
        levels = _stages(wish, len(maps), f'the outputs of the {where}')
    rule = dict(gate=wish.cfg)
    if len(levels) < len(maps):
        rule['levels'] = tuple(levels)
    _rule(network, part, rule, f'the {where}')


def _conv_in_backbone(network: Network, part: ConfigDict, wish: _Wish) -> None:
    traced = network.trace('backbone')
    if wish.position is not None:
        _rule(network, part, dict(conv=wish.cfg, replace=wish.position), 'the backbone')
        return
    stages = stages_of(traced)
    chosen = [stages[i] for i in _stages(wish, len(stages), 'the backbone')] if stages else []
    names = [name for stage in chosen for name in stage.convs]
    _replace(network, part, wish, traced, names, 'backbone')


def _replace(network: Network, part, wish: _Wish, traced, names: list, where: str) -> None:
    """A rule that exchanges these convolutions of a part."""
    if wish.name == 'AAConv2d':
        names = [name for name in names if traced.net.get_submodule(name).groups == 1]
    if not names:
        kind = network.kind(part).__name__
        has = any(type(m).__name__ == wish.name for m in traced.net.modules())
        why = (
            f'its convolutions are {wish.name} already'
            if has
            else 'it has no plain convolution of the kind that it replaces'
        )
        raise ValueError(
            f'{wish.name} cannot stand in the {where} {kind}: {why}; gates can stand there, and '
            'position=REGEX names convolutions'
        )
    convs = [name for name, module in traced.net.named_modules() if is_plain_conv(module)]
    rule = dict(conv=wish.cfg, replace=pattern_of(names, convs))
    _rule(network, part, rule, f'the {where}')


# ------------------------------------------------------------------------------ necks and heads


def _is_fpn(network: Network, part: ConfigDict) -> bool:
    return network.kind(part).__name__ in ('FPN', 'AWFPN') and not _is_attend(part)


def _gate_in_neck(network: Network, part: ConfigDict, wish: _Wish) -> None:
    if wish.position not in (None, 'outputs', *POSITIONS):
        _rule(network, part, dict(gate=wish.cfg, after=wish.position), 'the neck')
        return
    if _is_fpn(network, part) and wish.stages is None and wish.position is None:
        if part.get('gate_cfg') is not None:
            raise ValueError(
                f'{wish.name} cannot be added: {part["gate_cfg"]["type"]} stands before the '
                'convolutions of the neck already; position="outputs" gates its output maps'
            )
        if network.kind(part).__name__ == 'FPN':
            _exchange(part, 'mmattn.AWFPN', dict(conv_cfg=None))
        part['gate_cfg'] = wish.cfg
        return
    traced = network.trace('neck')
    _gate_on_outputs(network, part, wish, list(range(len(traced.outputs))), 'neck')


def _conv_in_neck(network: Network, part: ConfigDict, wish: _Wish) -> None:
    if wish.position is not None:
        _rule(network, part, dict(conv=wish.cfg, replace=wish.position), 'the neck')
        return
    if _is_fpn(network, part):
        own = part.get('conv_cfg')
        kind = network.kind(part).__name__
        if kind == 'AWFPN' and 'conv_cfg' not in part:
            own = dict(type='mmattn.AWConv2d')
        if own is not None and own['type'] not in ('Conv2d', 'Conv'):
            raise ValueError(
                f'{wish.name} cannot stand in the neck: its convolutions are {own["type"]}; '
                'gates can stand there'
            )
        part.pop('conv_cfg', None)
        _exchange(part, 'mmattn.AWFPN', dict(conv_cfg=wish.cfg))
        return
    traced = network.trace('neck')
    names = [name for name, module in traced.net.named_modules() if is_plain_conv(module)]
    _replace(network, part, wish, traced, names, 'neck')


def _head_convs(net) -> list:
    """The spatial convolutions of a head's towers; where it has none, its predictors."""
    modules = dict(net.named_modules())
    spatial = [name for name, m in modules.items() if is_plain_conv(m) and max(m.kernel_size) > 1]
    towers = [name for name in spatial if any(p.endswith(('conv', 'convs')) for p in _words(name))]
    return towers or spatial


def _words(name: str) -> list:
    return [word for word in name.split('.') if not word.isdigit() and word != 'conv']


def _conv_in_head(network: Network, name: str, wish: _Wish) -> None:
    part = network.part(name)
    net = network.build(part)
    if wish.position is not None:
        _rule(network, part, dict(conv=wish.cfg, replace=wish.position), f'the {name}')
        return
    _replace(network, part, wish, Traced(net, {}, [], None), _head_convs(net), name)


def _gate_in_head(network: Network, name: str, wish: _Wish) -> None:
    part = network.part(name)
    after = wish.position
    if after is None:
        net = network.build(part)
        modules = dict(net.named_modules())
        layers = [c.removesuffix('.conv') for c in _head_convs(net) if c.endswith('.conv')]
        layers = [layer for layer in layers if type(modules[layer]).__name__ == 'ConvModule']
        if not layers:
            raise ValueError(
                f'{wish.name} cannot stand in the {name} {network.kind(part).__name__}: it has no '
                'tower of convolutions; AWConv2d can stand there'
            )
        after = pattern_of(layers, _own_names(net))
    _rule(network, part, dict(gate=wish.cfg, after=after), f'the {name}')


# ----------------------------------------------------------------- necks, twins, heads, the model


def _add_neck(cfg: Config, wish: _Wish) -> None:
    network = Network(cfg)
    part = _need_part(network, 'neck', wish.name)
    options = {k: v for k, v in wish.cfg.items() if k not in ('type', 'init')}
    gate, conv = options.pop('gate_cfg', None), options.pop('conv_cfg', dict(type='AWConv2d'))
    start = choose_init(cfg)[0] if 'init' not in wish.cfg else wish.cfg['init']
    if conv is not None:
        row = find_method(conv['type'])
        own = {k: v for k, v in conv.items() if k != 'type'}
        own = _with_defaults(row, {**own, **options}, (start, False), network)
        _conv_in_neck(network, part, wish._replace(method=row, cfg=own))
    if gate is not None:
        row = find_method(gate['type'])
        own = {k: v for k, v in gate.items() if k != 'type'}
        own = _with_defaults(row, own, (start, False), network)
        _gate_in_neck(Network(cfg), part, wish._replace(method=row, cfg=own))


def _add_twin(cfg: Config, wish: _Wish) -> None:
    network = Network(cfg)
    part = _need_part(network, 'backbone', wish.name)
    kind = network.kind(part)
    twin = TWINS.get(kind.__name__)
    if kind.__name__ in TWINS.values():
        raise ValueError(f'{wish.name} cannot be added: the backbone is a {kind.__name__} already')
    if twin != wish.name or _is_attend(part):
        likes = ', '.join(f'{host} ({ours})' for host, ours in TWINS.items())
        hint = (
            '; add it before the other methods'
            if _is_attend(part) or kind.__name__ == 'AttentionResNet'
            else ''
        )
        raise ValueError(
            f'{wish.name} cannot stand in the place of the backbone {kind.__name__}: TDAM has '
            f'twins of {likes}{hint}; every gate can stand there'
        )
    changes = {k: v for k, v in wish.cfg.items() if k != 'type'}
    if wish.position is not None:
        raise ValueError(f'position has no meaning for {wish.name}, got {wish.position!r}')
    if twin == 'TDResNet':
        _prepare_td_resnet(kind, part, changes)
    elif twin == 'TDConvNeXt' and not {'preset', 'steps', 'distance', 'blocks'} & set(changes):
        arch = part.get('arch', 'tiny')
        if arch in ('tiny', 'small', 'base'):
            changes['preset'] = f'{arch}-joint-t2m1'
    if wish.stages is not None:
        number = len(stages_of(network.trace('backbone')))
        chosen = _stages(wish, number, 'the backbone')
        changes['blocks'] = [None if stage in chosen else [] for stage in range(number)]
    _exchange(part, f'mmattn.{twin}', changes)


def _prepare_td_resnet(kind: type, part: ConfigDict, changes: dict) -> None:
    if kind.__module__.startswith('mmpretrain'):
        found = _from_mmpretrain(kind, part)
        if found is None:
            raise ValueError(
                'TDResNet cannot stand for a ResNet of mmpretrain with drop_path_rate, expansion '
                'or deep_stem; every gate can stand in it'
            )
        changes.update({k: v for k, v in found.items() if k not in changes})
    if kind.__name__ == 'ResNetV1d':
        changes.update(deep_stem=True, avg_down=True)
    chosen = {'preset', 'steps', 'distance', 'attention', 'blocks'} & set(changes)
    preset = TD_PRESETS.get(part['depth'])
    if not chosen and preset and part.get('num_stages', 4) == 4:
        changes['preset'] = preset


def _add_head(cfg: Config, wish: _Wish) -> None:
    network = Network(cfg)
    if not network.is_classifier:
        raise ValueError(
            'LearnToPayHead cannot stand here: it is a head of classifiers; detectors take '
            'LearnToPayGate'
        )
    head, backbone = network.part('head'), _need_part(network, 'backbone', wish.name)
    kind = network.kind(head).__name__
    if kind != 'LinearClsHead':
        raise ValueError(
            f'LearnToPayHead cannot stand in the place of the head {kind}: it replaces a '
            'LinearClsHead; LearnToPayGate can stand in the backbone'
        )
    number = len(stages_of(network.trace('backbone'))) or 4
    chosen = _stages(wish, number, 'the backbone') if wish.stages else list(range(number))[-3:]
    backbone['out_indices'] = tuple(chosen)
    if network.kind(backbone).__name__ in ('ConvNeXt', 'TDConvNeXt'):
        backbone['gap_before_final_norm'] = False
    maps = Network(cfg).trace('backbone').outputs
    if len(maps) != len(chosen) or None in maps:
        raise ValueError(
            f'LearnToPayHead cannot stand here: {network.kind(backbone).__name__} gives '
            f'{maps} for out_indices={tuple(chosen)}, and it needs (N, C, H, W) maps; '
            'LearnToPayGate can stand in the backbone'
        )
    kept = {k: v for k, v in head.items() if k in ('num_classes', 'loss', 'topk', 'cal_acc')}
    head.clear()
    head.update({**wish.cfg, **kept, 'in_channels': [shape[0] for shape in maps]})
    network.model['neck'] = None


def _add_model(cfg: Config, wish: _Wish) -> None:
    network = Network(cfg)
    kinds = [getattr(kind, '__name__', kind) for kind in network.outer]
    if 'mmattn.SSIA' in kinds or 'SSIA' in kinds:
        raise ValueError('SSIA cannot be added: it stands around this model already')
    if kinds:
        raise ValueError(
            f'SSIA cannot stand around {kinds[0]}: it adds its losses to the model that has the '
            'backbone; gates and convolutions can stand inside'
        )
    own = dict(wish.cfg)
    if 'taps' not in own:
        own['taps'] = _taps(network, wish)
    if not network.is_classifier:
        own.setdefault('norm', 'LN')  # a process of a detector has few images
    if 'sample' not in own and max(network.size) < 512 and network.size != (224, 224):
        own['sample'] = (3, *network.size)
    _mend_ssd(network)
    cfg.model = dict(type=own.pop('type'), model=cfg.model, **own)
    hooks = list(cfg.get('custom_hooks') or [])
    cfg.custom_hooks = [*hooks, dict(type='mmattn.SSIAHook')]


def _taps(network: Network, wish: _Wish) -> tuple:
    """The stages that train, from the lowest to the last."""
    traced = network.trace('backbone')
    stages = stages_of(traced)
    if traced.problem or not all(stage.end for stage in stages) or len(stages) < 2:
        kind = network.kind(network.part('backbone')).__name__
        raise ValueError(
            f'SSIA finds no stages in the backbone {kind}: taps=(NAME, NAME, ...) names modules '
            'that give maps'
        )
    net = traced.net
    net.train()  # which freezes; mmdet's ResNet returns nothing here
    new = net.added_parameters() if isinstance(net, AddedParts) else ()
    trains = {name for name, p in net.named_parameters() if p.requires_grad and name not in new}
    moving = [number for number, stage in enumerate(stages) if _moves(stage, net, trains)]
    net.eval()
    moving = _stages(wish, len(stages), 'the backbone') if wish.stages is not None else moving
    moving = moving[-4:]  # the paper's three losses
    if hasattr(net, 'res_layers'):
        return tuple(moving)
    return tuple(f'backbone.{stages[number].end}' for number in moving)


def _moves(stage: Stage, net, trains: set) -> bool:
    """Whether a stage has a parameter that trains, or none at all (a lone activation)."""
    names = [f'{stage.end}.{name}' for name, _ in net.get_submodule(stage.end).named_parameters()]
    return not names or any(name in trains for name in names)


# ----------------------------------------------------------------------------------------- SSD


def _is_ssd(network: Network) -> bool:
    head = network.part('bbox_head')
    return head is not None and any(
        kind.__name__ == 'SSDHead' for kind in network.kind(head).__mro__
    )


def _mend_ssd(network: Network) -> None:
    """mmdet's SSDHead cannot predict since 3.2; ours can."""
    head = network.part('bbox_head')
    if head is None or getattr(plain_type(head), '__name__', plain_type(head)) not in (
        'SSDHead',
        'mmdet.SSDHead',
    ):
        return
    if not _is_attend(head):
        head['type'] = 'mmattn.SSDHead'
    elif isinstance(head['wrapped'], dict):
        head['wrapped']['type'] = 'mmattn.SSDHead'
    else:
        head['wrapped'] = 'mmattn.SSDHead'


_ADD = {
    'gate': _add_gate,
    'conv': _add_conv,
    'neck': _add_neck,
    'twin': _add_twin,
    'head': _add_head,
    'model': _add_model,
}
