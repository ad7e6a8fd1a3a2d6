"""Putting gates and convolutions into a network that is already built.

Nothing here copies a host's ``forward``: gates run in hooks (module-level functions, so that a
network can be pickled and copied) or in the host's own slots, and hold no state between calls,
so that gradient checkpointing may run a block twice.
"""

from collections.abc import Iterable

import torch
from mmcv.cnn import build_conv_layer, build_plugin_layer
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmattn.core.modes import eval_mode
from mmattn.registry import MODELS

__all__ = [
    'AddedParts',
    'build_gate',
    'check_keys',
    'check_rules',
    'gate_input',
    'gate_output',
    'replace_conv',
    'unused_name',
]


class AddedParts:
    """Mixin for a network that got new parts: the host neither freezes nor forgets them.

    ``frozen_stages`` is meant for weights a checkpoint brought and ``norm_eval`` for statistics a
    checkpoint brought. The new parts have neither, so :meth:`train` lets the host freeze and then
    gives every new parameter its own ``requires_grad`` back and every new module the mode asked
    for.
    """

    attention_norm_eval = False
    _added: frozenset = frozenset()  # names of the modules and parameters that are new

    def _names(self) -> set:
        modules = (name for name, _ in self.named_modules())
        return {*modules, *(name for name, _ in self.named_parameters())}

    def _remember(self, plain: set) -> None:
        """Everything that is not in ``plain`` (from :meth:`_names`) is new."""
        self._added = self._added | (self._names() - plain)

    def added_parameters(self) -> dict:
        """The new parameters by name: what a checkpoint of the plain network lacks."""
        return {name: p for name, p in self.named_parameters() if name in self._added}

    def _added_roots(self) -> list:
        """The new modules that are not part of another new module."""
        return [
            module
            for name, module in self.named_modules()
            if name in self._added and name.rpartition('.')[0] not in self._added
        ]

    def train(self, mode: bool = True):
        flags = [(p, p.requires_grad) for p in self.added_parameters().values()]
        super().train(mode)
        for parameter, flag in flags:
            parameter.requires_grad_(flag)
        for root in self._added_roots():
            root.train(mode)
            if self.attention_norm_eval:
                for module in root.modules():
                    if isinstance(module, _BatchNorm):
                        module.eval()
        return self


def gate_output(gate: nn.Module, module: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
    """Forward hook, as ``partial(gate_output, gate)``."""
    return gate(output)


def gate_input(gate: nn.Module, module: nn.Module, inputs: tuple) -> tuple:
    """Forward pre-hook, as ``partial(gate_input, gate)``."""
    return (gate(inputs[0]), *inputs[1:])


def build_gate(cfg: dict, in_channels: int) -> tuple[str, nn.Module]:
    """A gate of the given width and its short name.

    Raises:
        TypeError: ``cfg`` is no config.
        ValueError: its type lacks the scope or is a convolution; it sets ``in_channels``; the
            gate does not keep the shape of its input.
    """
    _check_config('gate', cfg, 'SE')
    if 'in_channels' in cfg:
        raise ValueError(
            f'gate must not set in_channels, its place does, got {cfg["in_channels"]!r} in a '
            f'{cfg["type"]!r}'
        )
    if _is_conv(cfg):
        raise ValueError(
            f'gate must be a gate, got the convolution {cfg["type"]!r}: it goes into conv2 of '
            'AttentionResNet or conv of a rule of Attend'
        )
    name, gate = build_plugin_layer(cfg, in_channels=in_channels)
    like = next(gate.parameters(), torch.zeros(()))
    x = torch.zeros(1, in_channels, 8, 8, device=like.device, dtype=like.dtype)
    with eval_mode(gate), torch.no_grad():  # leaves no trace in a norm's statistics
        out = gate(x)
    if not isinstance(out, Tensor) or out.shape != x.shape:
        got = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise ValueError(
            f'gate must keep the shape of its input, got {cfg["type"]!r}, which turns '
            f'{tuple(x.shape)} into {got}'
        )
    return name, gate


def _check_config(what: str, cfg, example: str) -> None:
    """Refuse what the host would answer without naming it."""
    if not isinstance(cfg, dict) or 'type' not in cfg:
        raise TypeError(f"{what} must be a dict like dict(type='mmattn.{example}'), got {cfg!r}")
    if cfg['type'] in MODELS.module_dict:
        raise ValueError(
            f"{what} must have a type with its scope, 'mmattn.{cfg['type']}', got {cfg['type']!r}"
        )


def _is_conv(cfg: dict) -> bool | None:
    """Whether a config of ours is a convolution; ``None`` where it is not ours."""
    kind = cfg['type']
    if isinstance(kind, str):
        kind = MODELS.module_dict.get(kind.removeprefix('mmattn.'))
    return issubclass(kind, torch.nn.Conv2d) if isinstance(kind, type) else None


def replace_conv(parent: nn.Module, name: str, cfg: dict) -> None:
    """Put the convolution ``cfg`` in the place of ``parent.name``, with its weights.

    All arguments of ``nn.Conv2d`` are those of the replaced one; the weights go the way of a plain
    checkpoint.

    Raises:
        TypeError: ``cfg`` is no config.
        ValueError: its type lacks the scope or is no convolution.
    """
    _check_config('conv', cfg, 'AWConv2d')
    if _is_conv(cfg) is False:
        raise ValueError(
            f'conv must be a convolution, got {cfg["type"]!r}: gates go into gate of a rule'
        )
    old = getattr(parent, name)
    new = build_conv_layer(
        cfg,
        old.in_channels,
        old.out_channels,
        old.kernel_size,
        stride=old.stride,
        padding=old.padding,
        dilation=old.dilation,
        groups=old.groups,
        bias=old.bias is not None,
        padding_mode=old.padding_mode,
    ).to(device=old.weight.device, dtype=old.weight.dtype)
    new.load_state_dict(old.state_dict(), strict=False)
    kept = dict(new.named_parameters())
    for key, value in old.named_parameters():
        kept[key].requires_grad_(value.requires_grad)
    setattr(parent, name, new)  # same key, same place in the order of children


def unused_name(module: nn.Module, name: str) -> str:
    """``name``, or ``name_2``, ``name_3``, ... when the module already has it."""
    count, free = 1, name
    while hasattr(module, free):
        count += 1
        free = f'{name}_{count}'
    return free


def check_rules(rules) -> None:
    """Refuse what is no list of rules, a lone rule above all.

    Raises:
        TypeError: it is none.
    """
    if isinstance(rules, (dict, str)) or not isinstance(rules, Iterable):
        raise TypeError(f'attention must be a list of dicts, got {rules!r}')


def check_keys(rule: dict, allowed: tuple, required: str) -> None:
    """A rule is a dict with known keys, ``required`` among them.

    Raises:
        TypeError: the rule is no dict.
        ValueError: an unknown or missing key.
    """
    if not isinstance(rule, dict):
        raise TypeError(f'attention must be a list of dicts, got {type(rule).__name__} in it')
    unknown = sorted(set(rule) - set(allowed))
    if unknown:
        raise ValueError(f'a rule of attention takes {allowed}, got {unknown[0]!r}')
    if required not in rule:
        raise ValueError(f'a rule of attention needs {required!r}, got {sorted(rule)}')
