"""Two ways from a layer's output to score maps: in closed form, and with a backward pass.

Both run the network once for a batch. The closed form needs the weights of the linear layer that
follows the pooling and no gradient at all. The other cuts the graph at the target: nothing of the
network asks for a gradient, the target's output does, so autograd records from there on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmattn.core.modes import hooks
from mmattn.localization.layouts import last_tensor, replace_last
from mmattn.localization.methods import weigh
from mmattn.localization.probes import RecordEverything

__all__ = ['Classes', 'ClosedForm', 'GradientEngine', 'ScoreMapOutput', 'parameters_frozen']

Classes = Tensor | Callable[[Tensor], Tensor]
ToMaps = Callable[[str, Tensor, Tensor], Tensor]


class ScoreMapOutput(NamedTuple):
    """Maps ``(N, K, h, w)`` (``(T, N, K, h, w)`` for ``steps='all'``), logits ``(N, classes)``.

    The classes ``(N, K)`` are those the maps belong to.
    """

    maps: Tensor
    logits: Tensor
    classes: Tensor


@contextmanager
def parameters_frozen(model: nn.Module) -> Iterator[None]:
    """No parameter asks for a gradient meanwhile; each gets its own flag back at the end."""
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        for parameter, _ in flags:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter, requires_grad in flags:
            parameter.requires_grad_(requires_grad)


class ClosedForm:
    """Maps of a layer that average pooling and one linear layer follow: ``g = W / (h w)``.

    Args:
        run: ``run(x) -> logits``.
        name: The target layer's name.
        module: The target layer.
        weight: Weight of the linear layer, ``(classes, C)``.
        method: One of :data:`~mmattn.localization.methods.METHODS`.
        to_maps: ``to_maps(name, output, x)`` brings the output for an input into ``(N, C, h, w)``.
    """

    def __init__(
        self,
        run: Callable[[Tensor], Tensor],
        name: str,
        module: nn.Module,
        weight: Tensor,
        method: str,
        to_maps: ToMaps,
    ) -> None:
        self._run, self._name, self._module, self._weight = run, name, module, weight
        self._method, self._to_maps = method, to_maps

    def __call__(self, x: Tensor, classes: Classes) -> ScoreMapOutput:
        """Make the maps of the given classes for a batch."""
        seen: dict[str, Tensor] = {}

        def keep(_: nn.Module, inputs: Any, output: Any) -> None:
            seen['last'] = last_tensor(output)

        with torch.no_grad():
            with hooks([self._module], keep):
                logits = self._run(x)
            classes = _class_indices(classes, logits)
            act = _activation(self._to_maps, self._name, seen['last'], x)
            grad = self._weight[classes].to(act.dtype)  # (N, K, C)
            if self._method != 'cam':
                grad = grad / (act.shape[-2] * act.shape[-1])
            maps = weigh(self._method, grad[..., None, None], act)
        return ScoreMapOutput(maps, logits, classes)


class GradientEngine:
    """Maps of any layer, by one backward pass from the scores down to it.

    Args:
        run: ``run(x) -> logits``.
        modules: Target layers by name.
        calls: How often each is called in one forward pass, as far as known.
        method: One of :data:`~mmattn.localization.methods.METHODS`.
        steps: ``'last'``, ``'mean'`` or ``'all'`` of the maps of a layer called several times.
        to_maps: ``to_maps(name, output, x)`` brings an output for an input into ``(N, C, h, w)``.
    """

    def __init__(
        self,
        run: Callable[[Tensor], Tensor],
        modules: Mapping[str, nn.Module],
        calls: Mapping[str, int],
        method: str,
        steps: str,
        to_maps: ToMaps,
    ) -> None:
        self._run, self._modules, self._method = run, modules, method
        self._calls = {name: calls.get(name, 1) for name in modules}
        self.steps, self._to_maps = steps, to_maps
        self._record_all = False  # known after the first batch

    def __call__(self, x: Tensor, classes: Classes) -> ScoreMapOutput:
        """Make the maps of the given classes for a batch.

        Raises:
            ValueError: The scores do not depend on a target, or it runs under
                ``torch.inference_mode``.
        """
        with torch.enable_grad():
            logits, leaves = self._forward(x)
            if not logits.requires_grad and not self._record_all:
                self._record_all = True  # something after the target runs under no_grad
                logits, leaves = self._forward(x)
            if not logits.requires_grad:
                names = ', '.join(self._modules)
                raise ValueError(f'the class scores do not depend on layer {names}')
            classes = _class_indices(classes, logits)
            tensors = [leaf for of_layer in leaves.values() for leaf in of_layer]
            grads = iter(_gradients(logits.gather(1, classes), tensors))
        per_layer = []
        for name, of_layer in leaves.items():
            steps = [self._weigh(leaf, next(grads), x, name) for leaf in of_layer]
            per_layer.append(self._join_steps(steps, name))
        return ScoreMapOutput(_fuse(per_layer), logits.detach(), classes)

    def _forward(self, x: Tensor) -> tuple[Tensor, dict[str, list[Tensor]]]:
        """Run the network; again if a layer was called another number of times than expected."""
        for _ in range(2):
            leaves: dict[str, list[Tensor]] = {name: [] for name in self._modules}
            counts = dict.fromkeys(self._modules, 0)

            def cut(
                name: str,
                module: nn.Module,
                inputs: Any,
                output: Any,
                leaves: dict = leaves,
                counts: dict = counts,
            ) -> Any:
                counts[name] += 1
                if self.steps == 'last' and counts[name] < self._calls[name]:
                    return None
                leaf = _leaf(last_tensor(output), name)
                leaves[name].append(leaf)
                with torch.enable_grad():  # of the copy: a later in-place layer must not reach it
                    return replace_last(output, leaf.clone())

            recording = RecordEverything() if self._record_all else nullcontext()
            with hooks(self._modules, cut), recording:
                logits = self._run(x)
            if self.steps != 'last' or counts == self._calls:
                break
            self._calls = counts
        return logits, leaves

    def _weigh(self, leaf: Tensor, grad: Tensor | None, x: Tensor, name: str) -> Tensor:
        """One call's map; ``grad`` is ``(K, N, ...)`` or None."""
        if grad is None:
            raise ValueError(f'the class scores do not depend on layer {name}')
        act = _activation(self._to_maps, name, leaf.detach(), x)
        k, n = grad.shape[:2]
        grad = _full(self._to_maps(name, grad.flatten(0, 1), x))
        grad = grad.unflatten(0, (k, n)).transpose(0, 1)
        return weigh(self._method, grad, act)

    def _join_steps(self, steps: list[Tensor], name: str) -> Tensor:
        if self.steps == 'last':
            return steps[-1]
        if len({s.shape for s in steps}) > 1:
            shapes = [tuple(s.shape[-2:]) for s in steps]
            raise ValueError(f"layer {name!r} has maps of sizes {shapes}; use steps='last'")
        stack = torch.stack(steps)
        return stack if self.steps == 'all' else stack.mean(0)


def _leaf(tensor: Tensor, name: str) -> Tensor:
    if tensor.is_inference():
        raise ValueError(
            f'layer {name!r} runs under torch.inference_mode, which hides its gradient; '
            'use torch.no_grad there'
        )
    return tensor if tensor.requires_grad else tensor.detach().requires_grad_()


def _activation(to_maps: ToMaps, name: str, output: Tensor, x: Tensor) -> Tensor:
    """Return a layer's output as maps, ``(N, C, h, w)``, one row for each image."""
    maps = _full(to_maps(name, output, x))
    if len(maps) != len(x):
        raise ValueError(
            f'layer {name!r} gives {len(maps)} rows for {len(x)} images, as one that works on '
            'windows of the map: take a layer around it'
        )
    return maps


def _full(tensor: Tensor) -> Tensor:
    """Half precision to float32; other types as they are."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def _gradients(scores: Tensor, tensors: list[Tensor]) -> list[Tensor | None]:
    """Gradients of scores ``(N, K)``: per tensor ``(K, N, ...)``, or None where unused."""
    rows = torch.eye(scores.shape[1], dtype=scores.dtype, device=scores.device)
    rows = rows[:, None].expand(-1, len(scores), -1)  # (K, N, K)
    if len(rows) == 1:
        grads = torch.autograd.grad(scores, tensors, rows[0], allow_unused=True)
        return [None if g is None else g[None] for g in grads]
    try:
        return torch.autograd.grad(
            scores, tensors, rows, is_grads_batched=True, allow_unused=True, retain_graph=True
        )
    except RuntimeError:  # an operator without a batching rule: one class after the other
        grads = [
            torch.autograd.grad(scores, tensors, row, allow_unused=True, retain_graph=True)
            for row in rows
        ]
        return [None if g[0] is None else torch.stack(g) for g in zip(*grads)]


def _class_indices(classes: Classes, logits: Tensor) -> Tensor:
    classes = classes(logits.detach()) if callable(classes) else classes
    classes = torch.as_tensor(classes, device=logits.device)
    classes = classes[:, None] if classes.dim() == 1 else classes
    if classes.shape[0] != logits.shape[0]:
        raise ValueError(
            f'classes must have one row per image ({logits.shape[0]}), got {classes.shape[0]}'
        )
    return classes


def _fuse(per_layer: list[Tensor]) -> Tensor:
    """Mean of several layers' maps, each scaled to a maximum of 1, at the finest size."""
    if len(per_layer) == 1:
        return per_layer[0]
    size = max((m.shape[-2:] for m in per_layer), key=lambda s: s[0] * s[1])
    total = 0
    for maps in per_layer:
        maps = maps / maps.amax((-2, -1), keepdim=True).clamp(min=torch.finfo(maps.dtype).tiny)
        flat = maps.flatten(0, -4) if maps.dim() == 5 else maps
        flat = F.interpolate(flat, size=size, mode='bilinear', align_corners=False)
        total = total + flat.reshape(*maps.shape[:-2], *size)
    return total / len(per_layer)
