"""Say what a checkpoint brings to a model, seen from both sides, and refuse one that does not fit.

mmengine loads every checkpoint with ``strict=False``: a network that got half of its weights runs
on without a word above a warning. Everything here looks before anything is loaded.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.model.weight_init import PretrainedInit
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from mmattn.core.checkpoint.reading import find_state, load_checkpoint
from mmattn.core.names import shorten

__all__ = [
    'LoadReport',
    'LoadReportHook',
    'bad_weights',
    'check_pretrained',
    'compare',
    'load_weights',
]

# Bookkeeping of BatchNorm that old checkpoints lack; it changes no output.
_HARMLESS = re.compile(r'(^|\.)num_batches_tracked$')
_ACCIDENT = 0.05  # a lower share of the smaller side's keys may fit by accident
_STATISTICS = re.compile(r'(^|\.)running_(mean|var)$')


@dataclass
class LoadReport:
    """How the keys of a checkpoint and of a model fit.

    Args:
        matched: Keys both have, with the same shape.
        missing: Keys of the model that the checkpoint lacks, but for those of ``new``.
        unexpected: Keys of the checkpoint that the model lacks.
        mismatched: Keys both have with other shapes; key to ``(checkpoint, model)``.
        adapted: Keys that a module of the model cuts or fills when it loads a plain checkpoint;
            key to ``(checkpoint, model)``, the first being ``None`` for one the checkpoint lacks.
        new: Keys the checkpoint lacks because an added part of the model brings them.
        useful: Whether some parameters would be loaded, not just one or two that fit by accident.
        prefix: What was taken off every key of the checkpoint to make it fit.
        would_fit: A prefix of many of the checkpoint's keys without which they would fit.
        belongs_to: The part of the model whose keys the checkpoint has.
    """

    matched: list = field(default_factory=list)
    missing: list = field(default_factory=list)
    unexpected: list = field(default_factory=list)
    mismatched: dict = field(default_factory=dict)
    adapted: dict = field(default_factory=dict)
    new: list = field(default_factory=list)
    useful: bool = False
    prefix: str = ''
    would_fit: str = ''
    belongs_to: str = ''

    @property
    def fits(self) -> bool:
        """Whether the checkpoint is of exactly this model."""
        return not (self.missing or self.new or self.unexpected or self.mismatched or self.adapted)

    def summary(self) -> str:
        """One line a person can read, at most a few keys of each kind."""
        own = (self.matched, self.missing, self.new, self.mismatched, self.adapted)
        parts = [f"{len(self.matched)} of the model's {sum(map(len, own))} keys fit"]
        if self.prefix:
            parts.append(f'after {self.prefix!r} was taken off its keys')
        if self.new:
            parts.append(f'new in the model: {shorten(self.new)}')
        if self.missing:
            parts.append(f'missing in the checkpoint: {shorten(self.missing)}')
        if cut := {key: shapes for key, shapes in self.adapted.items() if shapes[0]}:
            parts.append(f'cut to fit: {shorten(_arrows(cut))}')
        if filled := [key for key in self.adapted if key not in cut]:
            parts.append(f'filled from their neighbours: {shorten(filled)}')
        if self.mismatched:
            parts.append(f'of another shape, not loaded: {shorten(_arrows(self.mismatched))}')
        if self.unexpected:
            parts.append(f'unused: {shorten(self.unexpected)}')
        return '; '.join(parts)

    def advice(self) -> str:
        """Return what the misfit probably means and what to do."""
        if self.would_fit:
            return f'Its keys would fit without {self.would_fit!r} in front.'
        if self.belongs_to:
            return f'It has the keys of {self.belongs_to!r} alone.'
        if not self.useful:
            some = 'Hardly any' if self.matched else 'No'
            return f'{some} key fits: is this the checkpoint of another network?'
        if self.mismatched:
            return (
                'Shapes differ: the config has another width, depth or number of classes than the '
                'one this checkpoint was trained with.'
            )
        absent = self.missing or self.new
        if self.unexpected and not absent:
            return (
                'The config lacks parts the checkpoint was trained with, such as its attention: '
                'use the config it was trained with (a copy lies beside the checkpoint).'
            )
        if absent and not self.unexpected:
            return (
                'The checkpoint lacks parts the config has, such as its attention: use the config '
                'it was trained with (a copy lies beside the checkpoint), or train this one first.'
            )
        return 'Use the config this checkpoint was trained with (a copy lies beside it).'


def _arrows(shapes: Mapping) -> list:
    return [f'{key} {old} -> {new}' for key, (old, new) in shapes.items()]


def compare(model: nn.Module, checkpoint: Mapping) -> LoadReport:
    """Compare the keys and shapes of a checkpoint with those of a model; changes neither.

    Args:
        model: The model, wrapped for distributed training or not.
        checkpoint: What was saved: a state dict, or a dict that holds one.

    Returns:
        The comparison. ``num_batches_tracked``, which old checkpoints lack and which changes no
        output, is left out where only one side has it.

    Raises:
        ValueError: The checkpoint holds no state dict.
    """
    return _fit(model, find_state(checkpoint))[0]


def load_weights(
    model: nn.Module, checkpoint: Mapping, name: str = 'the checkpoint', partial: bool = False
) -> LoadReport:
    """Load what was saved into a model that must get all of its weights.

    Args:
        model: The model.
        checkpoint: What :func:`load_checkpoint` gave.
        name: The checkpoint's name in messages.
        partial: Whether keys of the model may stay as they are.

    Returns:
        What was loaded; keys of the checkpoint that nothing uses are allowed.

    Raises:
        ValueError: It does not fit; the message has the keys of both sides.
    """
    report, state = _fit(model, find_state(checkpoint))
    lacking = report.missing or report.new or report.mismatched
    if not report.useful or (lacking and not partial):
        raise ValueError(f'{name} does not fit the model: {report.summary()}. {report.advice()}')
    model.load_state_dict(state, strict=False)
    return report


def bad_weights(model: nn.Module, state: Mapping[str, Tensor] | None = None) -> list[str]:
    """Return the parameters and norm statistics that hold NaN or infinity, by name.

    Args:
        model: The model whose keys are looked at.
        state: Values to look at instead of the model's own.
    """
    model = _bare(model)
    values = model.state_dict() if state is None else state
    learned = dict(model.named_parameters())
    return [
        key
        for key, value in values.items()
        if (key in learned or _STATISTICS.search(key))
        and value.is_floating_point()
        and not torch.isfinite(value).all()
    ]


def refuse_bad_weights(model: nn.Module, state: Mapping[str, Tensor], name: str) -> None:
    """Refuse weights of a training that had diverged.

    Raises:
        ValueError: Some value is NaN or infinite.
    """
    if bad := bad_weights(model, state):
        raise ValueError(
            f'{name} holds NaN or infinity in {len(bad)} tensors ({shorten(bad, 3)}): the '
            'training had diverged when it was saved; take an older checkpoint'
        )


def check_pretrained(model: nn.Module) -> None:
    """Report, before they are loaded, the checkpoints that ``init_cfg`` of a model asks for.

    Args:
        model: The model, before its ``init_weights()``.

    Raises:
        ValueError: Nothing of a checkpoint would be loaded, or it cannot be read.
    """
    for where, module, cfg in _pretrained_parts(_bare(model)):
        name, prefix = cfg['checkpoint'], cfg.get('prefix')
        state = {
            re.sub(r'^module\.', '', k): v for k, v in find_state(load_checkpoint(name)).items()
        }
        if prefix:
            start = prefix if prefix.endswith('.') else f'{prefix}.'
            inside = {k[len(start) :]: v for k, v in state.items() if k.startswith(start)}
            if not inside:
                first = sorted({key.partition('.')[0] for key in state})
                raise ValueError(
                    f'init_cfg of {where}: no key of {name} begins with prefix={prefix!r}; they '
                    f'begin with {shorten(first)}'
                )
            state = inside
        report = _fit(module, state, take_off=False)[0]
        if not report.useful:
            advice = report.advice()
            if report.would_fit:
                front = (f'{prefix}.'.replace('..', '.') if prefix else '') + report.would_fit
                advice = (
                    f"{advice[:-1]}: write init_cfg=dict(type='Pretrained', prefix={front!r}, "
                )
                advice += f'checkpoint={name!r}).'
            raise ValueError(
                f'init_cfg of {where}: nothing of {name} would be loaded. {advice} '
                f'{report.summary()}'
            )
        refuse_bad_weights(module, state, name)
        print_log(f'Checkpoint {name} for {where}: {report.summary()}', logger='current')


class LoadReportHook(Hook):
    """Report every checkpoint the runner reads, and refuse one that does not fit.

    Also the checkpoints that ``init_cfg`` asks for, before a training that does not resume. Keys
    of a wrapper (``module.``, ``_orig_mod.``, ``model.``) are taken off where that makes a
    checkpoint fit.

    Args:
        partial: Whether a checkpoint may lack keys, or have more. True for the start of a training
            from other weights; False to test or to resume, where half a network is a mistake.
        way_out: What a person can do to continue all the same; ends the error.

    Raises:
        ValueError: (when a checkpoint is read) it does not fit and ``partial`` is False, none of
            its keys fits, or it holds NaN or infinity.
    """

    priority = 'VERY_LOW'  # after hooks that exchange the weights, such as EMA's

    def __init__(self, partial: bool, way_out: str = '') -> None:
        self.partial = partial
        self.way_out = way_out

    def before_run(self, runner: Any) -> None:
        """Look at the checkpoints of ``init_cfg`` before they are loaded."""
        training = isinstance(getattr(runner, 'optim_wrapper', None), OptimWrapper)
        if training and not runner._resume:
            check_pretrained(runner.model)

    def after_load_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Compare before the runner loads."""
        name = getattr(runner, '_load_from', None) or 'the checkpoint'
        report, state = _fit(runner.model, find_state(checkpoint))
        if not report.useful or not (report.fits or self.partial):
            way_out = f' {self.way_out}' if self.way_out and report.matched else ''
            raise ValueError(
                f'{name} does not fit the config: {report.summary()}. {report.advice()}{way_out}'
            )
        refuse_bad_weights(runner.model, state, name)
        if report.prefix or 'state_dict' not in checkpoint:
            checkpoint['state_dict'] = state
        expected = '' if report.fits else ' (expected when starting from another network)'
        print_log(f'Checkpoint: {report.summary()}{expected}', logger='current')


def _pretrained_parts(model: nn.Module) -> Iterator[tuple[str, nn.Module, Mapping]]:
    """Return what mmengine will load: no parts of a part that is loaded whole."""
    whole: list[str] = []
    for where, module in model.named_modules():
        if any(where.startswith(f'{part}.' if part else '') for part in whole):
            continue
        cfgs = getattr(module, 'init_cfg', None) or []
        for cfg in [cfgs] if isinstance(cfgs, Mapping) else cfgs:
            kind = cfg.get('type')
            if kind is PretrainedInit or str(kind).rpartition('.')[2] == 'Pretrained':
                if cfgs is cfg:
                    whole.append(where)
                yield where or 'the model', module, cfg


def _bare(model: nn.Module) -> nn.Module:
    """Return the model without what distribution or test-time augmentation wraps it in."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


def _fit(
    model: nn.Module, saved: dict[str, Tensor], take_off: bool = True
) -> tuple[LoadReport, dict[str, Tensor]]:
    """Return the report, and the state dict with the keys that the model knows.

    Args:
        model: The model.
        saved: The state dict.
        take_off: Whether a prefix in front of all keys may be taken off.
    """
    model = _bare(model)
    own = model.state_dict()
    report = LoadReport()
    prefix, certain = _find_prefix(own, saved)
    if certain and take_off:
        report.prefix = prefix
        saved = {_off(key, prefix): value for key, value in saved.items()}
    elif prefix:
        report.would_fit = prefix
    own = {k: v for k, v in own.items() if k in saved or not _HARMLESS.search(k)}
    loaded = dict(saved)
    for name, module in model.named_modules():
        if hasattr(module, 'adapt_checkpoint'):
            module.adapt_checkpoint(loaded, f'{name}.' if name else '')
    added = _added_keys(model)
    for key, value in own.items():
        old = tuple(saved[key].shape) if key in saved else None
        new = tuple(value.shape)
        if old == new:
            report.matched.append(key)
        elif key in loaded and tuple(loaded[key].shape) == new:
            report.adapted[key] = (old, new)
        elif old is not None:
            report.mismatched[key] = (old, new)
        elif key in added:
            report.new.append(key)
        else:
            report.missing.append(key)
    report.unexpected = [k for k in saved if k not in own and not _HARMLESS.search(k)]
    learned = dict(model.named_parameters())
    loading = sum(key in learned for key in (*report.matched, *report.adapted))
    report.useful = 0 < loading >= _ACCIDENT * min(len(learned), len(saved))
    if not report.useful and not report.would_fit:
        report.belongs_to = _find_prefix(saved, own)[0].rstrip('.')
    return report, saved


_COMPILED = '_orig_mod.'


def _off(key: str, prefix: str) -> str:
    return key.replace(_COMPILED, '').removeprefix(prefix.replace(_COMPILED, ''))


def _find_prefix(own: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> tuple[str, bool]:
    """Return what stands in front of the keys of a checkpoint that a model has without it.

    Returns:
        The prefix, and whether it is certain: it is in front of every key, or every key of the
        model is found with it.
    """
    votes: Counter = Counter()
    for key, value in saved.items():
        plain, shape = key.replace(_COMPILED, ''), tuple(value.shape)
        for suffix in _suffixes(plain):
            if suffix in own and tuple(own[suffix].shape) == shape:
                votes[plain[: len(plain) - len(suffix)]] += 1
    direct = sum(k in own and tuple(own[k].shape) == tuple(v.shape) for k, v in saved.items())
    if not votes:
        return '', False
    prefix, count = votes.most_common(1)[0]
    if count <= direct:
        return '', False
    plain = {key.replace(_COMPILED, '') for key in saved}
    everywhere = all(key.startswith(prefix) for key in plain)
    needed = [key for key in own if not _HARMLESS.search(key)]
    complete = all(prefix + key in plain for key in needed)
    shown = prefix or _COMPILED
    return shown, everywhere or complete


def _suffixes(key: str) -> Iterator[str]:
    """``a.b.c`` -> ``a.b.c``, ``b.c``, ``c``."""
    yield key
    while '.' in key:
        key = key.partition('.')[2]
        yield key


def _added_keys(model: nn.Module) -> set[str]:
    """Keys that a checkpoint of the plain network lacks, as the added parts say themselves."""
    found = set()
    for name, module in model.named_modules():
        if hasattr(module, 'added_keys'):
            start = f'{name}.' if name else ''
            found |= {start + key for key in module.added_keys()}
    return found
