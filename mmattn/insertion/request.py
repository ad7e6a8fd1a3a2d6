"""A request: this method, in this part, at this place; and the sentences for what cannot be."""

import inspect
from collections.abc import Sequence
from typing import Any, NamedTuple

from mmengine.config import ConfigDict

from mmattn.insertion.methods import POSITIONS, Method
from mmattn.insertion.networks import Network, class_of
from mmattn.insertion.stages import stages_of

__all__ = [
    'Start',
    'Request',
    'can_stand',
    'exchange',
    'method_config',
    'need_part',
    'refuse_twice',
]


class Start(NamedTuple):
    """How new parts start: ``init``, why, and whether somebody asked for it."""

    init: str
    reason: str
    asked: bool


class Request(NamedTuple):
    """One method to add at one place.

    Args:
        method: the row of the method.
        cfg: the method's config.
        where: the part, by its path; ``'neck'`` and ``'head'`` mean all of them.
        stages: as the user gave them.
        position: likewise.
        start: how it starts.
    """

    method: Method
    cfg: dict
    where: str
    stages: Any
    position: str | None
    start: Start

    @property
    def name(self) -> str:
        """The method's name for messages."""
        return self.method.name

    @property
    def kind(self) -> str:
        """The name of the class that is added."""
        return self.cfg['type'].rpartition('.')[2]

    @property
    def pattern(self) -> str | None:
        """The position, where it is a regular expression for names of modules."""
        return None if self.position in (None, *POSITIONS) else self.position

    def chosen_stages(self, number: int, what: str) -> list[int]:
        """Return the stages of a network that has so many, as indices from 0.

        Raises:
            ValueError: one is out of range.
        """
        if self.stages is None:
            return list(range(number))[self.method.stages] or [number - 1]
        stages = self.stages
        if isinstance(stages, int) and not isinstance(stages, bool):
            stages = [stages]
        if isinstance(stages, Sequence) and not isinstance(stages, str) and len(stages):
            if all(isinstance(stage, bool) for stage in stages):
                if len(stages) == number and any(stages):
                    return [stage for stage, wanted in enumerate(stages) if wanted]
            elif all(type(s) is int and s in range(-number, number) for s in stages):
                return sorted({stage % number for stage in stages})
        raise ValueError(
            f'stages of {what} must be indices from 0 to {number - 1} or {number} booleans, got '
            f'{self.stages!r}'
        )


def can_stand(network: Network, where: str) -> str:
    """Return what can stand in a kind of part, for messages."""
    if where.startswith('neck'):
        maps = [name for name in network.necks() if network.trace(name).gives_maps]
        return 'every gate, AWConv2d, AAConv2d and AWFPN' if maps else 'nothing'
    if where == 'backbone':
        traced = network.trace('backbone')
        if not traced.problem and not traced.gives_maps and not stages_of(traced):
            return 'nothing, as it has no (N, C, H, W) maps'
    return {
        'backbone': 'every gate, AWConv2d, AAConv2d and TDAM (ResNet, ConvNeXt, MobileNetV3)',
        'model': 'SSIA',
    }.get(where, 'AWConv2d, AAConv2d and gates where it has convolutions')


def need_part(network: Network, where: str, name: str) -> ConfigDict:
    """Return the config of a part.

    Raises:
        ValueError: the network has none.
    """
    part = network.part(where)
    if part is None:
        raise ValueError(
            f'where: this network has no {where}, so {name} cannot stand there; it has '
            f'{", ".join(network.names())}; in the backbone can stand '
            f'{can_stand(network, "backbone")}'
        )
    return part


def exchange(part: ConfigDict, kind: str, changes: dict) -> None:
    """Give a part another class; it keeps its other settings and their order."""
    old = dict(dict.items(part))
    part.clear()
    part.update({**old, 'type': kind, **{k: v for k, v in changes.items() if k not in old}})


def method_config(row: Method, options: dict, start: Start, network: Network) -> dict:
    """Return a method's config: its type with scope, its options, its start.

    Raises:
        ValueError: an identity start is asked for and the method has none.
    """
    name = row.name if '.' in row.name else f'mmattn.{row.name}'
    own = dict(type=name, **{**row.options, **options})
    if row.name == 'AWConv2d' and not network.is_classifier:
        own.setdefault('norm', 'SyncBN')  # a process of a detector has few images
    if row.name == 'AAConv2d' and 'map_size' not in own:
        own['map_size'] = tuple(max(side // 32, 1) for side in network.size)
    if row.kind in ('neck', 'model') or 'init' in own:
        return own
    if 'init' in inspect.signature(class_of(name, network.scope).__init__).parameters:
        if start.init == 'identity':
            own['init'] = start.init
    elif start.asked and start.init == 'identity':
        raise ValueError(f'init: {row.name} has no identity start, got init={start.init!r}')
    return own


def refuse_twice(old: dict, new: dict, where: str) -> None:
    """Refuse a rule whose gate stands at its place already.

    Raises:
        ValueError: it does.
    """
    if 'gate' not in old or old['gate']['type'] != new['gate']['type']:
        return
    for key in ('position', 'after'):
        if old.get(key) != new.get(key):
            return
    ours, theirs = _wanted(old), _wanted(new)
    if ours is None or theirs is None or ours & theirs:
        place = old.get('position') or old.get('after') or 'on its output maps'
        raise ValueError(
            f'{new["gate"]["type"]} cannot be added to the {where}: it stands there already '
            f'({place}); it can stand at another position or in other stages'
        )


def _wanted(rule: dict) -> set | None:
    for key in ('stages', 'levels', 'blocks'):
        if rule.get(key) is not None:
            return set(rule[key])
    return None
