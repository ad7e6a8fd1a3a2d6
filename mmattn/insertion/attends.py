"""Gates and convolutions by rules of Attend: other backbones, necks, heads."""

from collections.abc import Callable, Iterable, Sequence

from mmengine.config import ConfigDict
from torch import nn

from mmattn.backbones._insert import can_replace, convolutions
from mmattn.convs.over import can_attend_over
from mmattn.insertion.methods import POSITIONS, find_method
from mmattn.insertion.networks import Network, Traced, is_attend, plain_type
from mmattn.insertion.request import (
    Request,
    can_stand,
    exchange,
    method_config,
    need_part,
    refuse_twice,
)
from mmattn.insertion.resnets import as_attend_rules
from mmattn.insertion.stages import Stage, pattern_of, spatial_convs, stages_of

__all__ = ['add_aw_fpn', 'conv_in_backbone', 'conv_in_heads', 'conv_in_neck', 'gate_in_backbone']
__all__ += ['gate_in_heads', 'gate_in_neck', 'make_attend']


def make_attend(network: Network, where: str) -> ConfigDict:
    """Make a part an Attend around itself."""
    part = network.part(where)
    if is_attend(part):
        return part
    if network.kind(where).__name__ == 'AttentionResNet':
        rules = as_attend_rules(part)
    else:
        rules = []
    old = dict(dict.items(part))
    kind = old['type']
    scope = old.get('_scope_') or network.scope
    if isinstance(kind, str) and '.' not in kind and scope != 'mmdet':
        kind = f'{scope}.{kind}'
    part.clear()
    if {'attention', 'sample'} & set(old):  # arguments of the network, not of Attend
        part.update(dict(type='mmattn.Attend', wrapped=dict(old, type=kind)))
    else:
        part.update({**old, 'type': 'mmattn.Attend', 'wrapped': kind})
    part['attention'] = rules
    return part


def _add_rule(network: Network, where: str, rule: dict) -> None:
    part = make_attend(network, where)
    for old in part['attention']:
        if 'gate' in rule:
            refuse_twice(old, rule, where)
    part['attention'] = [*part['attention'], rule]


# ----------------------------------------------------------------------------------- backbones


def gate_in_backbone(network: Network, request: Request) -> None:
    """Put a gate where the method belongs, in any backbone.

    Raises:
        ValueError: there is no such place.
    """
    where = 'backbone'
    if request.pattern:
        _add_rule(network, where, dict(gate=request.cfg, after=request.pattern))
        return
    traced = _that_runs(network, where, request)
    position = request.position or request.method.position
    stages = stages_of(traced) if position != 'outputs' else []
    if not stages:
        if request.position in (None, 'outputs', 'after_stage'):
            _gate_on_outputs(network, where, request, network.read_levels())
            return
        raise _no_such_place(network, request, 'it has no residual blocks')
    chosen = [stages[i] for i in request.chosen_stages(len(stages), 'the backbone')]
    block = request.method.block if request.position is None else None
    places = [place for s in chosen for place in _places_in(traced.net, s, position, block)]
    if None in places and request.position in (None, 'after_stage'):
        _gate_on_outputs(network, where, request, network.read_levels())
        return
    if not places or None in places:
        raise _no_such_place(network, request, 'its blocks have no such position')
    names = [name for name, _ in traced.net.named_modules() if name]
    names = [name for name in names if not name.startswith('attend.')]
    for slot in dict.fromkeys(slot for _, slot in places):
        after = pattern_of([name for name, other in places if other == slot], names)
        rule = dict(gate=request.cfg, after=after, **({'position': slot} if slot else {}))
        _add_rule(network, where, rule)
    if network.is_classifier and not traced.gives_maps:  # fully connected layers: one size only
        network.part(where)['sample'] = (3, *network.size)


def _that_runs(network: Network, where: str, request: Request) -> Traced:
    traced = network.trace(where)
    if traced.problem:
        raise ValueError(
            f'{request.name} cannot be placed in the {where}: '
            f'{network.kind(where).__name__} does not run here ({traced.problem}); '
            'position=REGEX names modules'
        )
    return traced


def _no_such_place(network: Network, request: Request, why: str) -> ValueError:
    place = POSITIONS[request.position or request.method.position]
    return ValueError(
        f'position: {request.name} cannot stand {place} '
        f'in the backbone {network.kind("backbone").__name__}: {why}; gates can stand on its '
        "output maps (position='outputs') or after modules (position=REGEX)"
    )


def _places_in(net: nn.Module, stage: Stage, position: str, block: int | None) -> list:
    """Return ``(module, position inside it)`` of a stage's places; ``None`` for one it does not
    have.
    """
    if position == 'before_norm2' and not stage.blocks:
        return [(conv, '') for convs in stage.convs for conv in convs]
    if position == 'after_stage' or not stage.blocks:
        return [(stage.end, '') if stage.end else None]
    found = []
    for name, branch, convs in zip(stage.blocks, stage.branches, stage.convs):
        slots = _slots(net.get_submodule(name))
        if position == 'after_add':
            found.append((name, ''))
        elif position == 'branch':
            ends = [slot for slot in ('after_conv3', 'after_conv2') if slot in slots]
            basic = 'after_conv3' not in slots and not hasattr(net.get_submodule(name), 'conv3')
            last = ends[0] if ends and (ends[0] == 'after_conv3' or basic) else ''
            found.append((name, last) if last else (branch, ''))
        elif position in slots:
            found.append((name, position))
        elif position == 'before_norm2' and convs:
            found.append((convs[-1], ''))
        else:
            found.append(None)
    return [found[max(block, -len(found))]] if block is not None and found else found


def _slots(block: nn.Module) -> tuple:
    from mmattn.backbones.attention_resnet import positions_in

    return positions_in(block)


def _gate_on_outputs(network: Network, where: str, request: Request, read: Sequence) -> None:
    traced = network.trace(where)
    maps = traced.outputs
    if not read or any(level >= len(maps) or maps[level] is None for level in read):
        raise ValueError(
            f'{request.name} cannot stand in the {where}: {network.kind(where).__name__} gives no '
            f'(N, C, H, W) maps; what can stand there: {can_stand(network, where)}'
        )
    if request.stages is not None:
        levels = request.chosen_stages(len(maps), f'the outputs of the {where}')
    elif where == 'backbone':
        levels = list(read)[request.method.stages] or list(read[-1:])
    else:
        levels = list(read)
    rule = dict(gate=request.cfg)
    if len(levels) < len(maps):
        rule['levels'] = tuple(levels)
    _add_rule(network, where, rule)


def conv_in_backbone(network: Network, request: Request) -> None:
    """Put a convolution in the place of those that the method is for, in any backbone.

    Raises:
        ValueError: there is none.
    """
    where = 'backbone'
    if _by_pattern(network, where, request):
        return
    traced = _that_runs(network, where, request)
    stages = stages_of(traced)
    chosen = [stages[i] for i in request.chosen_stages(len(stages), where)] if stages else []
    names = [name for stage in chosen for convs in stage.convs for name in convs]
    _replace(network, where, request, traced.net, names)


def _by_pattern(network: Network, where: str, request: Request) -> bool:
    if request.position is None:
        return False
    if not request.pattern:
        raise ValueError(
            f'position of a convolution must be a regular expression for the names of those it '
            f'replaces, got {request.position!r}'
        )
    _add_rule(network, where, dict(conv=request.cfg, replace=request.pattern))
    return True


def _replace(
    network: Network, where: str, request: Request, net: nn.Module, names: Iterable
) -> None:
    """Return a rule that exchanges these convolutions of a part."""
    named = {aliases[0]: aliases for aliases in convolutions(net).values()}
    names = list(names)
    found = [name for name in names if _takes(net.get_submodule(name), request)]
    wanted = [alias for name in found for alias in named[name]]
    if not wanted:
        raise ValueError(
            f'{request.name} cannot stand in the {where} {network.kind(where).__name__}: '
            f'{_why_no_conv(net, request, bool(names))}; what can stand there: '
            f'{_besides(network, where, request, bool(names))}'
        )
    everything = [alias for aliases in named.values() for alias in aliases]
    _add_rule(network, where, dict(conv=request.cfg, replace=pattern_of(wanted, everything)))


def _besides(network: Network, where: str, request: Request, some: bool) -> str:
    others = can_stand(network, where)
    if where != 'backbone' or others.startswith('nothing'):
        return others
    return 'gates and AWConv2d' if some and request.kind != 'AWConv2d' else 'gates'


def _takes(conv: nn.Module, request: Request) -> bool:
    """Whether a convolution can be exchanged for the one that is asked for."""
    if request.kind != 'AWConv2d' and can_attend_over(conv):  # weight standardisation
        return False
    return request.kind != 'AAConv2d' or conv.groups == 1


def _why_no_conv(net: nn.Module, request: Request, some: bool) -> str:
    if some:
        return (
            'its convolutions there have groups or do something of their own (weight '
            'standardisation, padding), which self-attention has not'
        )
    kinds = {type(conv).__name__ for conv in convolutions(net)}
    if any('AWConv2d' in kind or 'AAConv2d' in kind for kind in kinds):
        return 'its convolutions are attention convolutions already'
    if any(can_replace(conv) for conv in convolutions(net)):
        return 'it has none in residual blocks; position=REGEX names others to replace'
    if kinds:
        return f'it has no convolution that it could replace (but {", ".join(sorted(kinds))})'
    return 'it has no convolution'


# --------------------------------------------------------------------------------------- necks


def gate_in_neck(network: Network, request: Request) -> None:
    """Put a gate before each convolution of an FPN, or on the output maps of any neck.

    Raises:
        ValueError: there is no neck, or no such place.
    """
    names = network.necks()
    if not names:
        need_part(network, 'neck', request.name)
    if request.pattern:
        _add_rule(network, names[0], dict(gate=request.cfg, after=request.pattern))
        return
    fpn = next((name for name in names if _takes_gates(network, name)), None)
    if fpn is None or request.stages is not None or request.position is not None:
        where = names[-1]
        _gate_on_outputs(network, where, request, range(len(network.trace(where).outputs)))
        return
    part = network.part(fpn)
    if part.get('gate_cfg') is not None:
        raise ValueError(
            f'{request.name} cannot be added to the {fpn}: {part["gate_cfg"]["type"]} stands '
            'before its convolutions already; a gate can stand on its output maps '
            "(position='outputs')"
        )
    if network.kind(fpn).__name__ == 'FPN':
        exchange(part, 'mmattn.AWFPN', dict(conv_cfg=None))
    part['gate_cfg'] = request.cfg


def _is_fpn(network: Network, name: str) -> bool:
    part = network.part(name)
    return network.kind(name).__name__ in ('FPN', 'AWFPN') and not is_attend(part)


def _takes_gates(network: Network, name: str) -> bool:
    """Whether it is an FPN that AWFPN can stand for with its convolutions as they are."""
    if not _is_fpn(network, name):
        return False
    is_plain = network.part(name).get('conv_cfg') is None
    return is_plain or network.kind(name).__name__ == 'AWFPN'


def conv_in_neck(network: Network, request: Request) -> None:
    """Put an attention convolution in the place of every convolution of the neck.

    Raises:
        ValueError: there is no neck, or none of its convolutions can be replaced.
    """
    names = network.necks()
    if not names:
        need_part(network, 'neck', request.name)
    if request.position is not None and _by_pattern(network, names[0], request):
        return
    problems = []
    for name in names:
        try:
            if _is_fpn(network, name):
                _conv_in_fpn(network, name, request)
            else:
                net = network.build(name)
                _replace(network, name, request, net, spatial_convs(net, smallest=1))
        except ValueError as error:
            problems.append(error)
    if len(problems) == len(names):
        raise problems[0]


def _conv_in_fpn(network: Network, name: str, request: Request) -> None:
    part = network.part(name)
    own = part.get('conv_cfg')
    if network.kind(name).__name__ == 'AWFPN' and 'conv_cfg' not in part:
        own = dict(type='mmattn.AWConv2d')
    kind = None if own is None else own['type']
    if kind == 'ConvWS' and request.kind == 'AWConv2d':
        exchange(part, 'mmattn.AWFPN', {})
        part['over_cfg'] = {k: v for k, v in request.cfg.items() if k != 'type'}
        return
    if kind not in (None, 'Conv', 'Conv2d'):
        raise ValueError(
            f'{request.name} cannot stand in the {name}: its convolutions are {kind}; gates can '
            'stand there'
        )
    part.pop('conv_cfg', None)
    exchange(part, 'mmattn.AWFPN', dict(conv_cfg=request.cfg))


def add_aw_fpn(network: Network, request: Request) -> None:
    """AW-FPN: attention convolutions and, with ``gate_cfg``, gates in the neck."""
    options = {k: v for k, v in request.cfg.items() if k not in ('type', 'init')}
    gate = options.pop('gate_cfg', None)
    conv = options.pop('conv_cfg', dict(type='AWConv2d'))
    for cfg, add, extra in ((conv, conv_in_neck, options), (gate, gate_in_neck, {})):
        if cfg is not None:
            row = find_method(cfg['type'])
            own = {k: v for k, v in cfg.items() if k != 'type'}
            own = method_config(row, {**own, **extra}, request.start, network)
            add(Network(network.cfg), request._replace(method=row._replace(name='AWFPN'), cfg=own))


# --------------------------------------------------------------------------------------- heads


def gate_in_heads(network: Network, request: Request) -> None:
    """Put a gate after every convolution of the towers of one head, or of all."""
    _in_heads(network, request, _gate_in_head)


def conv_in_heads(network: Network, request: Request) -> None:
    """Put an attention convolution for those of the towers of one head, or of all."""
    _in_heads(network, request, _conv_in_head)


def _in_heads(network: Network, request: Request, add: Callable) -> None:
    if request.where != 'head':
        add(network, request.where, request)
        return
    problems = []
    for name in network.heads():
        try:
            add(network, name, request)
        except ValueError as error:
            problems.append(error)
    if len(problems) == len(network.heads()):
        if problems:
            raise problems[0]
        need_part(network, 'head', request.name)


def _tower_convs(net: nn.Module) -> list[str]:
    """Return the spatial convolutions of a head's towers; where it has none, its predictors."""
    names = spatial_convs(net)
    towers = [name for name in names if any(w.endswith(('conv', 'convs')) for w in _words(name))]
    return towers or names


def _words(name: str) -> list[str]:
    return [word for word in name.split('.') if not word.isdigit() and word != 'conv']


def _conv_in_head(network: Network, name: str, request: Request) -> None:
    if not _by_pattern(network, name, request):
        net = network.build(name)
        _replace(network, name, request, net, _tower_convs(net))


def _gate_in_head(network: Network, name: str, request: Request) -> None:
    after = request.pattern
    if after is None:
        net = network.build(name)
        modules = dict(net.named_modules(remove_duplicate=False))
        layers = [c.removesuffix('.conv') for c in _tower_convs(net) if c.endswith('.conv')]
        layers = [layer for layer in layers if type(modules[layer]).__name__ == 'ConvModule']
        if not layers:
            raise ValueError(
                f'{request.name} cannot stand in the {name} {plain_type(network.part(name))}: it '
                'has no tower of convolutions with norm and activation; AWConv2d can stand '
                'where it has convolutions'
            )
        same = {id(modules[layer]) for layer in layers}
        layers = [other for other, module in modules.items() if id(module) in same]
        after = pattern_of(layers, [other for other in modules if other])
    _add_rule(network, name, dict(gate=request.cfg, after=after))
