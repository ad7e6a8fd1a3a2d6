"""Putting gates and convolutions into a network that is already built.

Nothing here copies a host's ``forward``: gates run in hooks (module-level functions, so that a
network can be pickled and copied) or in the host's own slots, and hold no state between calls,
so that gradient checkpointing may run a block twice.
"""

from collections.abc import Iterable, Sequence

import torch
from mmcv.cnn import Conv2d, build_conv_layer, build_plugin_layer
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmattn.convs import AAConv2d, AWConv2d
from mmattn.convs.over import attend_over, can_attend_over
from mmattn.core.modes import eval_mode
from mmattn.layers._gate import Gate
from mmattn.registry import MODELS

__all__ = [
    'AddedParts',
    'build_gate',
    'can_replace',
    'check_conv',
    'check_keys',
    'check_rules',
    'convolutions',
    'gate_input',
    'gate_output',
    'replace_conv',
    'unused_name',
]

_PLAIN_CONVS = (nn.Conv2d, Conv2d)


class AddedParts:
    """Mixin for a network that got new parts: the host neither freezes nor forgets them.

    ``frozen_stages`` is meant for weights a checkpoint brought and ``norm_eval`` for statistics a
    checkpoint brought. The new parts have neither, so :meth:`train` lets the host freeze and then
    gives every new parameter its own ``requires_grad`` back and every new module the mode asked
    for. A host's ``init_weights`` may walk over every module; :meth:`init_weights` gives gates
    their own start back.
    """

    attention_norm_eval = False
    _added: frozenset = frozenset()  # names of the modules and parameters that are new

    def _names(self) -> set:
        modules = (name for name, _ in self.named_modules())
        return {*modules, *(name for name, _ in self.named_parameters())}

    def _remember(self, plain: set) -> None:
        """Everything that is not in ``plain`` (from :meth:`_names`) is new."""
        self._added = self._added | (self._names() - plain)

    def _adopt(self) -> None:
        """Count what was built from ``conv_cfg`` or ``plugins`` as new where it is ours."""
        found = set()
        for prefix, module in self.named_modules():
            if not isinstance(module, (Gate, AWConv2d, AAConv2d)):
                continue
            plain = set() if isinstance(module, Gate) else {'', 'weight', 'bias'}
            names = {name for name, _ in (*module.named_modules(), *module.named_parameters())}
            found |= {f'{prefix}.{name}' if name else prefix for name in names - plain}
        self._added = self._added | found
        for parameter in self.added_parameters().values():
            parameter.requires_grad_(True)  # the host's constructor has frozen its stages

    def added_parameters(self) -> dict:
        """Return the new parameters by name: what a checkpoint of the plain network lacks."""
        return {name: p for name, p in self.named_parameters() if name in self._added}

    def added_keys(self) -> set[str]:
        """Return the keys that a checkpoint of the plain network lacks, buffers among them."""
        return {
            key
            for key in self.state_dict()
            if key in self._added or key.rpartition('.')[0] in self._added
        }

    def _added_roots(self) -> dict:
        """Return the new modules that are not part of another new module, by name."""
        return {
            name: module
            for name, module in self.named_modules()
            if name in self._added and name.rpartition('.')[0] not in self._added
        }

    def init_weights(self) -> None:
        """Return the host's initial values, and the methods' own for the gates.

        Gates that a checkpoint brought keep what it brought.
        """
        host = getattr(super(), 'init_weights', None)
        done = host is None or getattr(self, 'is_init', False)
        self._brought = set()
        if host is not None:
            host()
        brought = self.__dict__.pop('_brought')
        if done or host.__func__ is BaseModule.init_weights:
            return  # it asks its children last, the gates among them
        for prefix, gate in self._outer_gates().items():
            own = {f'{prefix}.{name}' for name, _ in gate.named_parameters()}
            if not own & brought:
                gate.init_weights()

    def _outer_gates(self) -> dict:
        """Return the new gates that are not part of another gate, by name."""
        found = {}
        for name, module in self.named_modules():
            new = isinstance(module, Gate) and name in self._added
            if new and not name.startswith(tuple(f'{outer}.' for outer in found)):
                found[name] = module
        return found

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args, **kwargs) -> None:
        if '_brought' in self.__dict__:
            self._brought |= {name for name in self._added if f'{prefix}{name}' in state_dict}
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def train(self, mode: bool = True) -> nn.Module:
        flags = [(p, p.requires_grad) for p in self.added_parameters().values()]
        super().train(mode)
        for parameter, flag in flags:
            parameter.requires_grad_(flag)
        for root in self._added_roots().values():
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
    """Return a gate of the given width and its short name.

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


def _check_config(what: str, cfg: object, example: str) -> None:
    """Refuse what the host would answer without naming it."""
    if not isinstance(cfg, dict) or 'type' not in cfg:
        raise TypeError(f"{what} must be a dict like dict(type='mmattn.{example}'), got {cfg!r}")
    if cfg['type'] in MODELS.module_dict:
        raise ValueError(
            f"{what} must have a type with its scope, 'mmattn.{cfg['type']}', got {cfg['type']!r}"
        )


def _is_conv(cfg: dict) -> bool | None:
    """Whether a config of ours is a convolution; ``None`` where it is not ours."""
    kind = _kind(cfg)
    return issubclass(kind, torch.nn.Conv2d) if isinstance(kind, type) else None


def _kind(cfg: dict) -> type | None:
    """Return the class a config of ours is of; ``None`` where it is not ours."""
    kind = cfg['type']
    return MODELS.module_dict.get(kind.removeprefix('mmattn.')) if isinstance(kind, str) else kind


def convolutions(net: nn.Module) -> dict:
    """``{convolution: its names}``, of all that attention could replace or must refuse.

    A module has several names where a network shares it (RTMDet's and RetinaNet's heads with
    separate norms). What is inside an attention convolution is left out.
    """
    found, inside = {}, ()
    for name, module in net.named_modules(remove_duplicate=False):
        if inside and name.startswith(inside):
            continue
        if isinstance(module, (AWConv2d, AAConv2d)):
            inside = (*inside, f'{name}.')
        if isinstance(module, nn.Conv2d):
            found.setdefault(module, []).append(name)
    return found


def can_replace(conv: nn.Module) -> bool:
    """Whether attention can take the place of a convolution with nothing lost."""
    return type(conv) in _PLAIN_CONVS or can_attend_over(conv)


def replace_conv(net: nn.Module, names: Sequence[str], cfg: dict, argument: str = 'conv') -> None:
    """Put the convolution ``cfg`` in the place of one of ``net``, with its weights.

    All arguments of ``nn.Conv2d`` are those of the replaced one. Its parameters stay the same
    objects where they keep their shape, so what is tied to them stays tied; else the weights go
    the way of a plain checkpoint.

    Args:
        net: the network.
        names: every name of the convolution in it; all of them get the one new module.
        cfg: config of the new one.
        argument: name of ``cfg`` for messages.

    Raises:
        TypeError: ``cfg`` is no config.
        ValueError: its type lacks the scope or is no convolution; the old one is of a class whose
            own doing attention would lose.
    """
    check_conv(cfg)
    old = net.get_submodule(names[0])
    if not can_replace(old):
        raise ValueError(
            f'{argument} must replace plain convolutions, got {names[0]!r}: attention in its '
            f'place would lose what a {type(old).__name__} does'
        )
    if can_attend_over(old):
        if _kind(cfg) is not AWConv2d:
            raise ValueError(
                f'{argument} must be an mmattn.AWConv2d where the framework has a '
                f'{type(old).__name__} ({names[0]!r}), got {cfg["type"]!r}'
            )
        attend_over(old, **{key: value for key, value in cfg.items() if key != 'type'})
        return
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
        if kept[key].shape == value.shape:
            setattr(new, key, value)
        else:
            kept[key].requires_grad_(value.requires_grad)
    for name in names:
        parent, _, child = name.rpartition('.')
        setattr(net.get_submodule(parent), child, new)  # same key, same place among the children


def check_conv(cfg: dict) -> None:
    """Refuse what is no config of a convolution.

    Raises:
        TypeError: ``cfg`` is no config.
        ValueError: its type lacks the scope or is no convolution.
    """
    _check_config('conv', cfg, 'AWConv2d')
    if _is_conv(cfg) is False:
        raise ValueError(
            f'conv must be a convolution, got {cfg["type"]!r}: gates go into gate of a rule'
        )


def unused_name(module: nn.Module, name: str) -> str:
    """``name``, or ``name_2``, ``name_3``, ... when the module already has it."""
    count, free = 1, name
    while hasattr(module, free):
        count += 1
        free = f'{name}_{count}'
    return free


def check_rules(rules: object) -> None:
    """Refuse what is no list of rules, a lone rule above all.

    Raises:
        TypeError: it is none.
    """
    if isinstance(rules, (dict, str)) or not isinstance(rules, Iterable):
        raise TypeError(f'attention must be a list of dicts, got {rules!r}')


def check_keys(rule: dict, allowed: tuple, required: str) -> None:
    """Check that a rule is a dict with known keys, ``required`` among them.

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
