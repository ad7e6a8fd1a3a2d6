"""Stop a training whose loss is no number, and say where it came from."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from torch import Tensor, nn

from mmattn.core.checkpoint.report import bad_weights
from mmattn.core.checkpoint.saving import last_good
from mmattn.core.modes import hooks
from mmattn.core.names import shorten

__all__ = ['InvalidLossHook']


class InvalidLossHook(Hook):
    """Ends a training at the first NaN or infinite loss, before it reaches the weights.

    The sentence names the step, the loss, and the first layer that gave something infinite or NaN
    out of finite input (found by a second run of the same batch). mmdet's
    ``CheckInvalidLossHook`` looks every 50 steps, when the weights are lost. A loss that is bad in
    one of several processes ends them all. It needs no place in
    a config that is trained with ``tools/train.py``; elsewhere:
    ``custom_hooks=[dict(type='mmattn.InvalidLossHook')]``.
    """

    def before_train(self, runner: Any) -> None:
        """Watch what the model gives."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        self._runner = runner
        self._handle = model.register_forward_hook(self._check, with_kwargs=True)

    def after_train(self, runner: Any) -> None:
        """Look no longer."""
        self._handle.remove()
        self._runner = None

    def _check(self, model: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
        if not model.training or not isinstance(output, Mapping):
            return
        losses = {name: list(_tensors(value)) for name, value in output.items() if 'loss' in name}
        values = [value.detach().float().sum() for own in losses.values() for value in own]
        if not values:
            return
        good = torch.isfinite(torch.stack(values)).all()
        everywhere = good.to(torch.uint8)  # in all processes, or those without it would wait
        all_reduce(everywhere, 'min')
        if everywhere:  # one wait for the device
            return
        self._handle.remove()
        step = f'step {self._runner.iter + 1} (epoch {self._runner.epoch + 1})'
        if good:
            raise FloatingPointError(
                f'a loss is NaN or infinite at {step} in another process, whose sentence names it'
                f'{last_good(self._runner)}'
            )
        bad = {
            name: 'NaN' if any(v.isnan().any() for v in own) else 'infinite'
            for name, own in losses.items()
            if not all(v.isfinite().all() for v in own)
        }
        terms = ', '.join(f'{name} is {what}' for name, what in bad.items())
        cause = _cause(model, args, kwargs)
        raise FloatingPointError(f'{terms} at {step}; {cause}{last_good(self._runner)}')


def _tensors(value: Any) -> Iterator[Tensor]:
    """Return the tensors in a nested value."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)


def _is_bad(value: Any) -> bool:
    return any(
        tensor.is_floating_point() and not torch.isfinite(tensor).all()
        for tensor in _tensors(value)
    )


def _cause(model: nn.Module, args: tuple, kwargs: dict) -> str:
    """Where something that is no number comes from: weights, the batch, a layer or the loss."""
    if bad := bad_weights(model):
        return f'the first bad layer is {bad[0].rpartition(".")[0]}: its {bad[0]} is no number'
    if _is_bad((args, kwargs)):
        paths = [getattr(s, 'img_path', None) for s in kwargs.get('data_samples') or ()]
        shown = shorten(map(str, filter(None, paths)))
        return f'the batch itself holds NaN or infinity ({shown or "no names"})'
    first: list[str] = []

    def note(name: str, module: nn.Module, inputs: tuple, output: Any) -> None:
        if not first and _is_bad(output) and not _is_bad(inputs):
            first.append(f'{name} ({type(module).__name__})')

    modules = {name: module for name, module in model.named_modules() if name}
    with hooks(modules, note), torch.no_grad():
        try:
            model.forward(*args, **kwargs)
        except Exception:  # the loss of a second run may refuse what the first one let pass
            if not first:
                return 'no layer could be named'
    if first:
        return f'the first bad layer is {first[0]}: it gives NaN or infinity for finite input'
    return (
        'every layer gives finite values, so the loss itself does not (targets, a logarithm of 0)'
    )
