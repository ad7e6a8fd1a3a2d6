"""Say what a checkpoint brought, and refuse one that does not fit.

The host loads every checkpoint with ``strict=False``: a network that got half of its weights runs
on without a word above a warning. The hook here runs between reading and loading.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import BaseTTAModel, is_model_wrapper

from mmattn.core.names import shorten

__all__ = ['LoadReport', 'LoadReportHook', 'compare']

# Bookkeeping of BatchNorm that old checkpoints lack; it changes no output.
_HARMLESS = re.compile(r'(^|\.)num_batches_tracked$')


@dataclass
class LoadReport:
    """How the keys of a checkpoint and of a model fit.

    Args:
        matched: Keys both have, with the same shape.
        missing: Keys of the model that the checkpoint lacks.
        unexpected: Keys of the checkpoint that the model lacks.
        mismatched: Keys both have with other shapes; key to ``(checkpoint, model)``.
        adapted: Keys that a module of the model cuts or fills when it loads a plain checkpoint;
            key to ``(checkpoint, model)``, the first being ``None`` for one the checkpoint lacks.
    """

    matched: list = field(default_factory=list)
    missing: list = field(default_factory=list)
    unexpected: list = field(default_factory=list)
    mismatched: dict = field(default_factory=dict)
    adapted: dict = field(default_factory=dict)

    @property
    def fits(self) -> bool:
        """Whether the checkpoint is of exactly this model."""
        return not (self.missing or self.unexpected or self.mismatched or self.adapted)

    def summary(self) -> str:
        """One line a person can read, at most a few keys of each kind."""
        total = sum(map(len, (self.matched, self.missing, self.mismatched, self.adapted)))
        parts = [f"{len(self.matched)} of the model's {total} keys fit"]
        if self.missing:
            parts.append(f'new in the model: {shorten(self.missing)}')
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
        """What the misfit probably means and what to do."""
        if not self.matched:
            return 'No key fits: is this the checkpoint of another network?'
        if self.mismatched:
            return (
                'Shapes differ: the config has another width, depth or number of classes than the '
                'one this checkpoint was trained with.'
            )
        if self.unexpected and not self.missing:
            return (
                'The config lacks parts the checkpoint was trained with, such as its attention: '
                'use the config it was trained with (a copy lies beside the checkpoint).'
            )
        if self.missing and not self.unexpected:
            return (
                'The checkpoint lacks parts the config has, such as its attention: use the config '
                'it was trained with (a copy lies beside the checkpoint), or train this one first.'
            )
        return 'Use the config this checkpoint was trained with (a copy lies beside it).'


def _arrows(shapes: Mapping) -> list:
    return [f'{key} {old} -> {new}' for key, (old, new) in shapes.items()]


def compare(model, checkpoint: Mapping) -> LoadReport:
    """Compare the keys and shapes of a checkpoint with those of a model; changes neither.

    Args:
        model (nn.Module): The model, wrapped for distributed training or not.
        checkpoint: What was saved: a state dict, or a dict that holds one as ``state_dict``.

    Returns:
        LoadReport: The comparison. ``num_batches_tracked``, which old checkpoints lack and which
        changes no output, is left out where only one side has it.

    Raises:
        ValueError: The checkpoint holds no state dict.
    """
    saved = checkpoint.get('state_dict', checkpoint)
    if not isinstance(saved, Mapping) or not any(hasattr(v, 'shape') for v in saved.values()):
        keys = shorten(map(str, checkpoint)) or 'nothing'
        raise ValueError(f'checkpoint must hold a state dict of tensors, got a dict of: {keys}')
    saved = {re.sub(r'^module\.', '', key): value for key, value in saved.items()}
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    own = {k: v for k, v in model.state_dict().items() if k in saved or not _HARMLESS.search(k)}
    loaded = dict(saved)
    for name, module in model.named_modules():
        if hasattr(module, 'adapt_checkpoint'):
            module.adapt_checkpoint(loaded, f'{name}.' if name else '')
    report = LoadReport()
    for key, value in own.items():
        old = tuple(saved[key].shape) if key in saved else None
        new = tuple(value.shape)
        if old == new:
            report.matched.append(key)
        elif key in loaded and tuple(loaded[key].shape) == new:
            report.adapted[key] = (old, new)
        elif old is not None:
            report.mismatched[key] = (old, new)
        else:
            report.missing.append(key)
    report.unexpected = [k for k in saved if k not in own and not _HARMLESS.search(k)]
    return report


class LoadReportHook(Hook):
    """Report every checkpoint the runner reads, and refuse one that does not fit.

    Args:
        partial: Whether a checkpoint may lack keys, or have more. True for the start of a training
            from other weights; False to test or to resume, where half a network is a mistake.
        way_out: What a person can do to go on all the same; ends the error.

    Raises:
        ValueError: (when a checkpoint is read) it does not fit and ``partial`` is False, or none
            of its keys fits.
    """

    priority = 'VERY_LOW'  # after hooks that exchange the weights, such as EMA's

    def __init__(self, partial: bool, way_out: str = '') -> None:
        self.partial = partial
        self.way_out = way_out

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Compare before the runner loads."""
        report = compare(runner.model, checkpoint)
        if not report.matched or not (report.fits or self.partial):
            name = getattr(runner, '_load_from', None) or 'the checkpoint'
            way_out = f' {self.way_out}' if self.way_out and report.matched else ''
            raise ValueError(
                f'{name} does not fit the config: {report.summary()}. {report.advice()}{way_out}'
            )
        expected = '' if report.fits else ' (expected when starting from another network)'
        print_log(f'Checkpoint: {report.summary()}{expected}', logger='current')
