"""Attention in any registered backbone, neck or head, also one without a slot for it."""

import re
from collections.abc import Iterable, Sequence
from functools import partial

import torch
from mmcv.cnn import Conv2d
from mmdet.registry import MODELS as HOST_MODELS
from mmengine.model import ModuleDict
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm, _InstanceNorm
from torch import Tensor, nn

from mmattn.backbones._insert import (
    AddedParts,
    build_gate,
    check_keys,
    check_rules,
    gate_output,
    replace_conv,
    unused_name,
)
from mmattn.core.front import Front
from mmattn.core.modes import eval_mode, hooks
from mmattn.core.names import listed
from mmattn.registry import MODELS

__all__ = ['Attend']

_PLAIN_CONVS = (nn.Conv2d, Conv2d)
_NORMS = (_BatchNorm, _InstanceNorm, nn.GroupNorm, nn.LayerNorm)


@MODELS.register_module()
class Attend(Front, AddedParts):
    r"""Any registered network with gates and attention convolutions added by rules.

    The result *is* the wrapped network: an instance of its class (and of ``Attend``), with its
    attributes, its ``init_cfg`` and its names in a checkpoint, so its old checkpoint loads with
    exactly the new parameters missing. Gates live in its child ``attend``. Its ``frozen_stages``
    does not freeze new parameters, its ``norm_eval`` does not keep new norms in eval mode.

    Every rule of ``attention`` is one of

    - ``dict(gate=..., levels=(0, 1))``: a gate on these output maps (all without ``levels``).
      Nothing inside the network sees it.
    - ``dict(gate=..., after=pattern)``: a gate behind every module of that name; what follows in
      the network sees it.
    - ``dict(conv=..., replace=pattern)``: this convolution in the place of every plain
      ``nn.Conv2d`` of that name. It starts with the weights of the old one and has its arguments.

    A pattern is a regular expression (or a list of them) that must match the whole dotted name as
    ``named_modules()`` gives it: ``r'features\.(3|8)'``, ``'extra_layers.*'``. Convolutions are
    exchanged first (the first rule that matches one takes it), then gates are added in the order
    of the rules. A norm cannot be named in ``after``: ``sync_bn`` and fusing exchange norms and
    would silently lose the gate.

    Args:
        wrapped: config of the network; or its type alone, the other keyword arguments then being
            the network's own. With the second form a config that inherits
            ``backbone=dict(type='SSDVGG', depth=16, ...)`` states only
            ``dict(type='mmattn.Attend', wrapped='SSDVGG', attention=[...])``.
        attention: the rules.
        sample: input of the trial run that tells the widths, as ``(channels, height, width)``,
            or a list of these for a neck or head. Default: a picture ``(3, 64, 64)``, or maps of
            the network's ``in_channels``, 64 x 64 and smaller.
        attention_norm_eval: keep the new norms in eval mode.
        kwargs: arguments of the network when ``wrapped`` is its type.

    Shape: as the wrapped network.

    Raises:
        ValueError: an unknown key, a pattern that matches nothing, a level out of range, a gate
            that changes the shape, a module in ``after`` that is a norm or gives no
            ``(N, C, H, W)`` map, a network the trial run cannot feed, a type without its scope.
        TypeError: a rule, a gate or a convolution is no dict.
    """

    def __new__(cls, wrapped, attention=(), sample=None, attention_norm_eval=False, **kwargs):
        if isinstance(wrapped, dict) and kwargs:
            raise ValueError(f'wrapped holds the whole config, got {sorted(kwargs)} beside it')
        cfg = wrapped if isinstance(wrapped, dict) else dict(type=wrapped, **kwargs)
        net = HOST_MODELS.build(cfg)
        if isinstance(net, Attend):
            raise ValueError('wrapped must be a plain network: put all rules into one list')
        return cls.in_front_of(net)  # Python calls __init__ on it: it is an Attend now

    def __init__(self, wrapped, attention=(), sample=None, attention_norm_eval=False, **kwargs):
        self.attention_norm_eval = attention_norm_eval
        self._level_gates = []
        plain = self._names()
        check_rules(attention)
        for rule in attention:
            _check(rule)
        self._replace_convs([rule for rule in attention if 'conv' in rule])
        self._remember(plain)  # before the trial run, in which the host freezes its stages
        gates = [rule for rule in attention if 'gate' in rule]
        if gates:
            after = [self._matching(rule) if 'after' in rule else [] for rule in gates]
            sample = sample or _default_sample(self, dict(wrapped=wrapped, **kwargs))
            widths, outputs = _trial(self, sample, {name for names in after for name in names})
            self.attend = ModuleDict()
            for rule, names in zip(gates, after):
                for name in names:
                    self._add_after(name, rule['gate'], widths)
                if 'after' not in rule:
                    self._add_to_levels(rule, outputs)
        self._remember(plain)

    def forward(self, *args, **kwargs):
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

    def _replace_convs(self, rules: list) -> None:
        convs = [name for name, module in self.named_modules() if type(module) in _PLAIN_CONVS]
        free = list(convs)
        for rule in rules:
            matches = _match(rule['replace'], free)
            if not matches:
                raise ValueError(
                    'replace must match the name of a convolution that no earlier rule took, '
                    f'got {rule["replace"]!r}; there are {listed(rule["replace"], convs)}'
                )
            for name in matches:
                parent, _, child = name.rpartition('.')
                replace_conv(self.get_submodule(parent), child, rule['conv'])
                free.remove(name)

    def _matching(self, rule: dict) -> list:
        modules = {name: module for name, module in self.named_modules() if name}
        matches = _match(rule['after'], modules)
        if not matches:
            raise ValueError(
                f'after must match the name of a module, got {rule["after"]!r}; '
                f'there are {listed(rule["after"], modules)}'
            )
        for name in matches:
            if isinstance(modules[name], _NORMS):
                kind = type(modules[name]).__name__
                raise ValueError(
                    f'after must not name a norm, got {name!r} ({kind}): '
                    'name the module around it or what follows it'
                )
        return matches

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

    def _add_to_levels(self, rule: dict, outputs: list) -> None:
        levels = rule.get('levels', range(len(outputs)))
        for level in levels if isinstance(levels, Sequence) and levels else [None]:
            if isinstance(level, bool) or level not in range(len(outputs)):
                raise ValueError(
                    f'levels must be a list of numbers from 0 to {len(outputs) - 1} for '
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


def _check(rule: dict) -> None:
    """A rule has the keys of one of the three kinds."""
    if isinstance(rule, dict) and 'conv' in rule:
        check_keys(rule, ('conv', 'replace'), 'replace')
    else:
        check_keys(rule, ('gate', 'after') if 'after' in rule else ('gate', 'levels'), 'gate')


def _match(patterns: str | Sequence, names: Iterable) -> list:
    """The names that one of the patterns matches as a whole."""
    patterns = [patterns] if isinstance(patterns, str) else patterns
    try:
        compiled = [re.compile(pattern) for pattern in patterns]
    except re.error as error:
        raise ValueError(
            f'after and replace must be regular expressions, got {patterns!r}: {error}'
        ) from error
    return [name for name in names if any(c.fullmatch(name) for c in compiled)]


def _default_sample(net: nn.Module, cfg: dict):
    """Input shapes for the trial run from ``in_channels``, the network's or its config's."""
    cfg = cfg['wrapped'] if isinstance(cfg['wrapped'], dict) else cfg
    channels = cfg.get('in_channels', getattr(net, 'in_channels', None))
    if isinstance(channels, Sequence):
        return [(c, max(64 >> i, 1), max(64 >> i, 1)) for i, c in enumerate(channels)]
    if hasattr(net, 'loss'):  # a head
        return [(cfg['in_channels'], 64, 64)]
    return (cfg.get('in_channels', 3), 64, 64)


def _trial(net: nn.Module, sample, names: set) -> tuple[dict, list]:
    """Run the network once and note the widths behind the named modules and of the outputs.

    Returns:
        ``{name: {width, ...}}`` and the width of every output, where anything but an
        ``(N, C, H, W)`` map is described by a string instead.
    """
    like = next(net.parameters())
    maps = [
        torch.zeros(1, *shape, device=like.device, dtype=like.dtype)
        for shape in ([sample] if isinstance(sample[0], int) else sample)
    ]
    widths = {name: set() for name in names}
    watched = {name: net.get_submodule(name) for name in names}
    try:
        with eval_mode(net), hooks(watched, partial(_note_width, widths)), torch.no_grad():
            outs = net(maps[0] if isinstance(sample[0], int) else tuple(maps))
    except Exception as error:
        raise ValueError(
            f'sample must be an input {net._host_class.__name__} can take, got {sample}: {error}'
        ) from error
    return widths, [_width(out) for out in ([outs] if isinstance(outs, Tensor) else outs)]


def _note_width(widths: dict, name: str, module: nn.Module, inputs: tuple, output) -> None:
    widths[name].add(_width(output))


def _width(output):
    if isinstance(output, Tensor):
        return output.shape[1] if output.dim() == 4 else f'a {tuple(output.shape)} tensor'
    return f'a {type(output).__name__}'
