"""Score maps of a classifier: which pixels spoke for a class.

One forward pass for a batch; gradients are taken only down to the target layer and for all
classes in one call; nothing leaves the device. Where average pooling and one linear layer are
all that follows the target layer, the gradient is known in closed form and no backward pass runs.
The methods are those of :mod:`mmattn.localization.methods`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from mmattn.core.modes import eval_mode
from mmattn.localization.engines import (
    Classes,
    ClosedForm,
    GradientEngine,
    ScoreMapOutput,
    parameters_frozen,
)
from mmattn.localization.layouts import KINDS, Layout, find_layouts
from mmattn.localization.methods import METHODS
from mmattn.localization.probes import linear_tail
from mmattn.localization.targets import Visit, check_hooks, choose, read_layout, resolve, visit

__all__ = ['METHODS', 'STEPS', 'ScoreMapOutput', 'ScoreMaps']

STEPS = ('last', 'all', 'mean')


class ScoreMaps:
    """Makes score maps of a classifier. Use it as a context manager.

    Inside the context the network is in eval mode and its parameters ask for no gradient; leaving
    restores all of it, whatever happened in between.

    Args:
        model: Any ``nn.Module``. Frozen networks and parts under ``torch.no_grad`` work.
        method: One of :data:`METHODS`.
        target: Layer to read: module, name, pattern as ``'layer4.*'``, or a list. None chooses
            the last map that the pooled head sees. Several layers: each map is scaled to a
            maximum of 1, resized to the finest, and the mean is taken.
        steps: A layer that is called T times in one forward (recurrent attention) has T maps:
            ``'last'``, their ``'mean'``, or ``'all'`` stacked in front.
        reshape: Layout of the target: None finds it, ``'nchw'``, ``'nhwc'``, ``'tokens'``, or a
            function that brings the layer's output into ``(N, C, h, w)``.
        forward: ``forward(model, x) -> logits``; default ``model(x)``.
        closed_form: Whether to take the closed form where the network allows it; False always
            runs a backward pass (the maps are the same).

    Differs from the papers: Grad-CAM++ leaves out a positive factor per image and class;
    HiResCAM is followed by a ReLU, as Grad-CAM; CAM has no ReLU, as in its paper.

    Raises:
        ValueError: Unknown method, steps or reshape; a TorchScript or compiled network; a target
            that gives no map (the message lists the candidates); ``'cam'`` where the head is not
            pooling plus linear; a score that does not depend on the target.
    """

    def __init__(
        self,
        model: nn.Module,
        method: str = 'gradcam',
        target: nn.Module | str | Sequence[nn.Module | str] | None = None,
        steps: str = 'last',
        reshape: str | Callable[[Tensor], Tensor] | None = None,
        forward: Callable[[nn.Module, Tensor], Tensor] | None = None,
        closed_form: bool = True,
    ) -> None:
        if method not in METHODS:
            raise ValueError(f'cam must be one of {", ".join(METHODS)}, got {method!r}')
        if steps not in STEPS:
            raise ValueError(f'steps must be one of {", ".join(STEPS)}, got {steps!r}')
        if not (reshape is None or callable(reshape) or reshape in KINDS):
            raise ValueError(
                f'reshape must be one of {", ".join(KINDS)} or a function, got {reshape!r}'
            )
        check_hooks(model)
        self.model, self.method, self.target, self.steps = model, method, target, steps
        self.reshape, self.closed_form = reshape, closed_form
        self._run = (lambda x: forward(model, x)) if forward else model
        self.names: list[str] | None = None  # target layers, known after the first batch
        self._layouts: dict[str, Layout] = {}
        self._engine: ClosedForm | GradientEngine | None = None
        self._inside: ExitStack | None = None  # what leaving the context takes back

    @property
    def analytic(self) -> bool:
        """Whether the maps need no backward pass; known after the first batch."""
        return isinstance(self._engine, ClosedForm)

    def __enter__(self) -> ScoreMaps:
        with ExitStack() as stack:
            stack.enter_context(eval_mode(self.model))
            stack.enter_context(parameters_frozen(self.model))
            self._inside = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._inside.close()
        self.names = self._engine = self._inside = None

    def prepare(self, x: Tensor) -> ScoreMaps:
        """Look at the network with one image, fix the target and the way to its gradient.

        Called by the first batch; call it yourself to know :attr:`names` earlier.

        Shape: ``x`` is ``(N, 3, H, W)``; only the first image is used.
        """
        self._check_open()
        x = x[:1]
        visits, logits = visit(self.model, self._run, x)
        _check_logits(logits)
        self.names, self._layouts = self._choose(x, visits)
        weight = self._linear_weight(x)
        if self.method == 'cam' and weight is None:
            raise ValueError(
                f'cam needs global average pooling and one linear layer right after '
                f'{", ".join(self.names)}; this network has something else there, use gradcam'
            )
        modules = {name: self.model.get_submodule(name) for name in self.names}
        if weight is not None and (self.closed_form or self.method == 'cam'):
            module = modules[self.names[0]]
            self._engine = ClosedForm(
                self._run, self.names[0], module, weight, self.method, self._to_maps
            )
        else:
            calls = {v.name: v.calls for v in visits}
            self._engine = GradientEngine(
                self._run, modules, calls, self.method, self.steps, self._to_maps
            )
        return self

    def _choose(self, x: Tensor, visits: list[Visit]) -> tuple[list[str], dict[str, Layout]]:
        """Names of the target layers, and their layouts where no function reads them."""
        if callable(self.reshape):
            if self.target is None:
                raise ValueError('reshape is a function, so name the target layer it belongs to')
            if isinstance(self.target, str):  # what it returns need not look like a map
                return [self.target], {}
            return resolve(self.model, self.target, visits), {}
        if self.reshape is not None:
            visits = [
                replace(v, layouts=kept)
                for v in visits
                if (kept := tuple(layout for layout in v.layouts if layout.kind == self.reshape))
            ]
        if self.target is None:
            chosen = choose(self.model, self._run, x, visits)
            return [chosen.name], {chosen.name: chosen.layout}
        names = resolve(self.model, self.target, visits)
        by_name = {v.name: v for v in visits}
        for name in names:
            if len(by_name[name].layouts) > 1:
                found = read_layout(self.model, self._run, x, by_name[name])
                by_name[name] = found or by_name[name]
        return names, {name: by_name[name].layout for name in names}

    def _linear_weight(self, x: Tensor) -> Tensor | None:
        """Weight of the linear layer after the pooling, where the closed form holds."""
        name = self.names[0]
        if len(self.names) != 1 or self.steps != 'last' or name not in self._layouts:
            return None
        layout = self._layouts[name]
        if layout.kind == 'tokens' and layout.prefix:
            return None
        return linear_tail(self.model, self._run, x, name, layout)

    def __call__(self, x: Tensor, classes: Classes) -> ScoreMapOutput:
        """Make the maps of the given classes for a batch.

        Args:
            x: Normalised images ``(N, 3, H, W)``.
            classes: ``(N, K)`` or ``(N,)`` class indices, or a function of the logits that
                returns them (to ask for the best classes without a second forward).

        Returns:
            A :class:`~mmattn.localization.engines.ScoreMapOutput`.
        """
        self._check_open()
        with torch.inference_mode(False):
            x = x.clone() if x.is_inference() else x
            if self._engine is None:
                self.prepare(x)
            return self._engine(x, classes)

    def _to_maps(self, name: str, tensor: Tensor, x: Tensor) -> Tensor:
        if callable(self.reshape):
            return self.reshape(tensor)
        layouts = find_layouts(tensor.shape, x.shape[-2:], self._layouts[name].kind)
        if not layouts:
            raise ValueError(
                f'the output of target layer {name!r} has shape {tuple(tensor.shape)}, which is '
                f'no map of a {x.shape[-2]} x {x.shape[-1]} input; give reshape a function'
            )
        return layouts[0].to_maps(tensor)

    def _check_open(self) -> None:
        if self._inside is None:
            raise RuntimeError('ScoreMaps works inside a with block: with ScoreMaps(...) as maps:')


def _check_logits(logits: Any) -> None:
    if not isinstance(logits, Tensor) or logits.dim() != 2:
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(f'the classifier must return scores of shape (N, classes), got {shape}')
