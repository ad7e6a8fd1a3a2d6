"""Attention in any registered backbone, neck or head, also one without a slot for it."""

import importlib
import re
from collections.abc import Iterable, Sequence
from functools import partial

from mmengine.model import ModuleDict
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm, _InstanceNorm
from torch import Tensor, nn

from mmattn.backbones._insert import (
    AddedParts,
    build_gate,
    can_replace,
    check_conv,
    check_keys,
    check_rules,
    convolutions,
    gate_output,
    replace_conv,
    unused_name,
)
from mmattn.backbones._trial import Trial, sample_inputs, try_out
from mmattn.core.arguments import check_call
from mmattn.core.front import Front
from mmattn.core.hosts import host_problem
from mmattn.core.names import did_you_mean, listed
from mmattn.registry import MODELS

__all__ = ['Attend']

# heads of mmdet that cannot predict -> the same, repaired
_REPAIRED = {'mmdet.models.dense_heads.ssd_head.SSDHead': 'mmattn.SSDHead'}
_NORMS = (_BatchNorm, _InstanceNorm, nn.GroupNorm, nn.LayerNorm)


@MODELS.register_module()
class Attend(Front, AddedParts):
    r"""Any registered network with gates and attention convolutions added by rules.

    The result *is* the wrapped network: an instance of its class (and of ``Attend``), with its
    attributes, its ``init_cfg`` and its names in a checkpoint, so its old checkpoint loads with
    exactly the new parameters missing. Gates live in its child ``attend``. Its ``frozen_stages``
    does not freeze new parameters, its ``norm_eval`` does not keep new norms in eval mode.

    Every rule of ``attention`` is one of

    - ``dict(gate=..., levels=(0, 1))``: a gate on these output maps (all without ``levels``, but
      for the image itself where a network hands it on). Nothing inside the network sees it. Name
      the levels that are read: a neck with ``start_level=1`` reads no level 0, and a gate there
      would get no gradient (:func:`mmattn.add_attention` sees to it, ``tools/train.py`` notes it).
    - ``dict(gate=..., after=pattern)``: a gate after every module of that name; what follows in
      the network sees it. With ``position='after_conv3'`` (or another of
      :class:`AttentionResNet`'s) it stands there inside every residual block of that name, of
      mmdet's kind or derived from it (Res2Net, RegNet, ResNeSt, HRNet, ...).
    - ``dict(conv=..., replace=pattern)``: this convolution in the place of every plain
      ``nn.Conv2d`` of that name. It starts with the weights of the old one and has its arguments.
      An AW-convolution also stands over weight standardisation (``ConvWS``, ``ConvAWS``) and
      over EfficientNet's padding, which are kept.

    A pattern is a regular expression (or a list of them) that must match the whole dotted name as
    ``named_modules()`` gives it: ``r'features\.(3|8)'``, ``'extra_layers.*'``. A module that the
    network uses under several names (heads that share their convolutions between levels) stays
    one module, whichever of its names is matched. Convolutions are exchanged first (the first
    rule that matches one takes it), then gates are added in the order of the rules. A norm cannot
    be named in ``after``: ``sync_bn`` and fusing exchange norms and would silently lose the gate.

    Args:
        wrapped: config of the network; or its type alone, the other keyword arguments then being
            the network's own. With the second form a config that inherits
            ``backbone=dict(type='SSDVGG', depth=16, ...)`` states only
            ``dict(type='mmattn.Attend', wrapped='SSDVGG', attention=[...])``.
        attention: the rules.
        sample: input of the trial run that tells the widths, as ``(channels, height, width)``,
            or a list of these for a neck or head. Default: the first of several likely ones that
            the network takes, images ``(3, 64, 64)`` or larger, or maps of its ``in_channels``.
        attention_norm_eval: keep the new norms in eval mode.
        kwargs: arguments of the network: all of them when ``wrapped`` is its type, else what a
            detector adds to its head's config (``train_cfg``, ``test_cfg``).

    Shape: as the wrapped network.

    Raises:
        ValueError: an unknown network or key, a pattern that matches nothing, a convolution that
            attention cannot stand for (of a class with a doing of its own, or never called), a
            level out of range, a gate that changes the shape, a module in ``after`` that is a
            norm or gives no ``(N, C, H, W)`` map, a network the trial run cannot feed, a type
            without its scope.
        TypeError: a rule, a gate or a convolution is no dict.
    """

    def __new__(
        cls,
        wrapped: dict | str,
        attention: Sequence = (),
        sample: object = None,
        attention_norm_eval: bool = False,
        **kwargs,
    ):
        net = _build(_config(wrapped, kwargs))
        if isinstance(net, Attend):
            raise ValueError('wrapped must be a plain network: put all rules into one list')
        return cls.in_front_of(net)  # Python calls __init__ on it: it is an Attend now

    def __init__(
        self,
        wrapped: str | type | dict,
        attention: Sequence[dict] = (),
        sample: Sequence | None = None,
        attention_norm_eval: bool = False,
        **kwargs,
    ) -> None:
        self.attention_norm_eval = attention_norm_eval
        self._level_gates = []
        plain = self._names()
        self._adopt()
        check_rules(attention)
        for rule in attention:
            _check(rule)
        convs = self._convs_to_replace([rule for rule in attention if 'conv' in rule])
        gates = [rule for rule in attention if 'gate' in rule]
        after = [self._matching(rule) if 'after' in rule else [] for rule in gates]
        followed = [[] if 'position' in rule else names for rule, names in zip(gates, after)]
        widths_needed = any('position' not in rule for rule in gates)
        samples = [sample] if sample else sample_inputs(self, _config(wrapped, kwargs))
        trial = self._try_out(samples, followed, convs, widths_needed)
        for names, cfg in convs:
            replace_conv(self, names, cfg)
        if gates:
            if widths_needed:
                self.attend = ModuleDict()
            for rule, names in zip(gates, after):
                for name in names:
                    if 'position' in rule:
                        self._add_inside(name, rule)
                    else:
                        self._add_after(name, rule['gate'], trial.widths)
                if 'after' not in rule:
                    self._add_to_levels(rule, trial)
        self._remember(plain)

    def forward(self, *args, **kwargs) -> object:
        outs = super().forward(*args, **kwargs)
        if not self._level_gates:
            return outs
        if isinstance(outs, Tensor):
            return self._gate_levels([outs])[0]
        return type(outs)(self._gate_levels(list(outs)))

    def _gate_levels(self, maps: list) -> list:
        for level, name in self._level_gates:
            maps[level] = self.attend[name](maps[level])
        return maps

    def _convs_to_replace(self, rules: list) -> list:
        """``(names, config)`` of each convolution to exchange, with all its names."""
        named = convolutions(self)
        free = [conv for conv in named if can_replace(conv)]
        found = []
        for rule in rules:
            check_conv(rule['conv'])
            matches = _match_modules(rule['replace'], {conv: named[conv] for conv in free})
            if not matches:
                others = _match_modules(rule['replace'], named)
                special = sorted({type(c).__name__ for c in others if not can_replace(c)})
                if special:
                    raise ValueError(
                        f'replace must name plain convolutions, got {rule["replace"]!r}: '
                        f'attention in their place would lose what a {special[0]} does'
                    )
                known = [named[conv][0] for conv in named if can_replace(conv)]
                raise ValueError(
                    'replace must match the name of a convolution that no earlier rule took, '
                    f'got {rule["replace"]!r}; there are {listed(rule["replace"], known)}'
                )
            for conv in matches:
                found.append((named[conv], rule['conv']))
                free.remove(conv)
        return found

    def _try_out(self, samples: list, after: list, convs: list, needed: bool) -> Trial | None:
        """Run once; a run that fails matters only where widths are ``needed``."""
        if not convs and not needed:
            return None
        watched = {names[0]: self.get_submodule(names[0]) for names, _ in convs}
        try:
            trial = try_out(self, samples, [name for names in after for name in names], watched)
        except ValueError:
            if needed:
                raise
            return None
        if trial.read:
            name = min(trial.read)
            raise ValueError(
                f'replace must name convolutions that are called, got {name!r}: '
                f'{self._host_class.__name__} computes with its weight alone, so attention there '
                'would never run'
            )
        return trial

    def _matching(self, rule: dict) -> list:
        named = {}
        for name, module in self.named_modules(remove_duplicate=False):
            if name:
                named.setdefault(module, []).append(name)
        matches = _match_modules(rule['after'], named)
        if not matches:
            known = [names[0] for names in named.values()]
            raise ValueError(
                f'after must match the name of a module, got {rule["after"]!r}; '
                f'there are {listed(rule["after"], known)}'
            )
        for module in matches:
            if isinstance(module, _NORMS):
                raise ValueError(
                    f'after must not name a norm, got {named[module][0]!r} '
                    f'({type(module).__name__}): name the module around it or what follows it'
                )
        return [named[module][0] for module in matches]

    def _add_after(self, name: str, cfg: dict, widths: dict) -> None:
        found = sorted(widths.get(name, ()), key=str)
        if len(found) != 1 or not isinstance(found[0], int):
            raise ValueError(
                f'after must name a module that gives one (N, C, H, W) map, got {name!r}, '
                f'which gives {found or "nothing in the trial run"}'
            )
        abbr, gate = build_gate(cfg, found[0])
        self.attend[unused_name(self.attend, f'{name.replace(".", "_")}_{abbr}')] = gate
        self.get_submodule(name).register_forward_hook(partial(gate_output, gate))

    def _add_inside(self, name: str, rule: dict) -> None:
        from mmattn.backbones.attention_resnet import add_to_block, positions_in

        block, position = self.get_submodule(name), rule['position']
        allowed = positions_in(block)
        if position not in allowed:
            kind = type(block).__name__
            has = f'has {", ".join(map(repr, allowed))}' if allowed else 'is no residual block'
            raise ValueError(
                f'position must be one that the block has, got {position!r} for {name!r} '
                f'({kind}), which {has}'
            )
        add_to_block(block, position, rule['gate'])

    def _add_to_levels(self, rule: dict, trial: Trial) -> None:
        outputs = trial.outputs
        every = [level for level in range(len(outputs)) if level not in trial.passed]
        levels = rule.get('levels', every)
        for level in levels if isinstance(levels, Sequence) and levels else [None]:
            if isinstance(level, bool) or level not in range(len(outputs)):
                raise ValueError(
                    f'levels must be a list of indices from 0 to {len(outputs) - 1} for '
                    f'{self._host_class.__name__} with these options, got {levels!r}'
                )
            if not isinstance(outputs[level], int):
                raise ValueError(
                    f'levels needs outputs of shape (N, C, H, W), got {outputs[level]} '
                    f'from {self._host_class.__name__}'
                )
            abbr, gate = build_gate(rule['gate'], outputs[level])
            key = unused_name(self.attend, f'level{level}_{abbr}')
            self.attend[key] = gate
            self._level_gates.append((level, key))


def _config(wrapped: dict | str, kwargs: dict) -> dict:
    """Return the network's own config.

    What a detector puts beside its head's config (``train_cfg``, ``test_cfg``) goes in as well.
    """
    if not isinstance(wrapped, dict):
        return dict(kwargs, type=wrapped)
    if 'type' not in wrapped:
        raise TypeError(f"wrapped must be a dict like dict(type='ResNet'), got {wrapped!r}")
    twice = sorted(set(wrapped) & set(kwargs))
    if twice:
        raise ValueError(f'wrapped holds {twice[0]!r} already, got another one beside it')
    return {**wrapped, **kwargs}


def _build(cfg: dict) -> nn.Module:
    """Build a network, whatever framework has its type, repaired where that needs it."""
    kind = _with_scope(cfg['type'])
    found = ROOT_MODELS.get(kind) if isinstance(kind, str) else kind
    if isinstance(found, type):
        check_call(found, {key: value for key, value in cfg.items() if key != 'type'})
    name = f'{getattr(found, "__module__", "")}.{getattr(found, "__name__", "")}'
    return ROOT_MODELS.build(dict(cfg, type=_REPAIRED.get(name, kind)))


def _with_scope(kind: object):
    """Return a type's name with its scope: that of the runner, or of the framework that has it."""
    if not isinstance(kind, str) or '.' in kind:
        return kind
    with ROOT_MODELS.switch_scope_and_registry(None) as registry:
        registries = [registry]
    for host in ('mmdet', 'mmpretrain'):
        if not host_problem(host):
            registries.append(importlib.import_module(f'{host}.registry').MODELS)
    for registry in registries:
        registry.import_from_location()
        if kind in registry.module_dict:
            return f'{registry.scope}.{kind}'
    names = [name for registry in registries for name in registry.module_dict]
    raise ValueError(
        f'wrapped must be the type of a registered network, got {kind!r}'
        f'{did_you_mean(kind, names)}'
    )


def _check(rule: dict) -> None:
    """Check that a rule has the keys of one of the three kinds."""
    if isinstance(rule, dict) and 'conv' in rule:
        check_keys(rule, ('conv', 'replace'), 'replace')
    else:
        place = ('after', 'position') if 'after' in rule else ('levels',)
        check_keys(rule, ('gate', *place), 'gate')


def _match_modules(patterns: str | Sequence, named: dict) -> list:
    """Return the modules of ``{module: names}`` one of whose names matches."""
    names = {name: module for module, names in named.items() for name in names}
    return list(dict.fromkeys(names[name] for name in _match(patterns, names)))


def _match(patterns: str | Sequence, names: Iterable) -> list:
    """Return the names that one of the patterns matches as a whole."""
    patterns = [patterns] if isinstance(patterns, str) else patterns
    try:
        compiled = [re.compile(pattern) for pattern in patterns]
    except re.error as error:
        raise ValueError(
            f'after and replace must be regular expressions, got {patterns!r}: {error}'
        ) from error
    return [name for name in names if any(c.fullmatch(name) for c in compiled)]
