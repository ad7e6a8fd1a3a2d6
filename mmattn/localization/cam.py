"""Score maps of a classifier: which pixels spoke for a class.

One forward pass for a batch; gradients are taken only down to the target layer and for all
classes in one call; nothing leaves the device. Where average pooling and one linear layer are
all that follows the target layer, the gradient is known in closed form and no backward pass runs.

Every method sums the channels of the target layer's output ``A`` with weights made of the
gradient ``g = d score / d A``:

=============  =====================================================  ==========================
``cam``        linear layer's weights, signed map                     Zhou et al., CVPR 2016
``gradcam``    mean over positions of g, then ReLU                    Selvaraju et al., ICCV 2017
``gradcam++``  sum of alpha ReLU(g), then ReLU                        Chattopadhay, WACV 2018
``layercam``   ReLU(g) at every position, then ReLU                   Jiang et al., TIP 2021
``hirescam``   g at every position, then ReLU                         Draelos & Carin, 2020
=============  =====================================================  ==========================
"""

from __future__ import annotations

from collections import namedtuple
from contextlib import ExitStack

import torch
import torch.nn.functional as F

from mmattn.core.modes import eval_mode, hooks
from mmattn.localization.targets import (
    choose,
    find_layout,
    last_tensor,
    linear_tail,
    replace_last,
    resolve,
    visit,
)

STEPS = ('last', 'all', 'mean')
ScoreMapOutput = namedtuple('ScoreMapOutput', 'maps logits classes')
ScoreMapOutput.__doc__ = """Maps ``(N, K, h, w)`` (``(T, N, K, h, w)`` for ``steps='all'``),
logits ``(N, classes)`` and the classes ``(N, K)`` the maps belong to."""


def _gradcam(grad, act):
    return grad.mean((-2, -1))


def _gradcam_plus_plus(grad, act):
    """eq. 19 with the exponential's positive factor left out, which a box does not feel."""
    area = act.sum((-2, -1))[:, None, :, None, None]  # (N, 1, C, 1, 1)
    bottom = 2 * grad.square() + area * grad.pow(3)
    alpha = torch.where(bottom == 0, torch.zeros_like(grad), grad.square() / bottom)
    weights = alpha * grad.clamp(min=0)
    if grad.shape[-1] == grad.shape[-2] == 1:  # constant gradient: the sum over all positions
        weights = weights * (act.shape[-2] * act.shape[-1])
    return weights.sum((-2, -1))


def _layercam(grad, act):
    return grad.clamp(min=0)


def _hirescam(grad, act):
    return grad


_WEIGHTS = {
    'cam': _gradcam,
    'gradcam': _gradcam,
    'gradcam++': _gradcam_plus_plus,
    'layercam': _layercam,
    'hirescam': _hirescam,
}
METHODS = tuple(_WEIGHTS)


def weigh(method, grad, act):
    """Sums an activation's channels with a method's weights.

    Args:
        method: One of :data:`METHODS`.
        grad: ``d score / d act`` for K classes, ``(N, K, C, h, w)``; ``(N, K, C, 1, 1)`` where it
            is the same at every position.
        act: ``(N, C, h, w)``.

    Shape: returns ``(N, K, h, w)``.
    """
    weights = _WEIGHTS[method](grad, act)
    if weights.dim() == 5 and weights.shape[-2:] == (1, 1):
        weights = weights[..., 0, 0]
    if weights.dim() == 3:  # (N, K, C) x (N, C, hw)
        maps = torch.bmm(weights, act.flatten(2)).unflatten(2, act.shape[-2:])
    else:
        maps = torch.einsum('nkchw,nchw->nkhw', weights, act)
    return maps if method == 'cam' else maps.clamp(min=0)


class ScoreMaps:
    """Makes score maps of a classifier. Use it as a context manager.

    Inside the context the network is in eval mode, its parameters ask for no gradient, and a
    hook sits on the target layer(s); leaving restores all of it, whatever happened in between.

    Args:
        model: Any ``nn.Module``. Frozen networks and parts under ``torch.no_grad`` work.
        method: One of :data:`METHODS`.
        target: Layer to read: module, name, pattern as ``'layer4.*'``, or a list. None chooses
            the last map before the pooling. Several layers: each map is scaled to a maximum of
            1, resized to the finest, and the mean is taken.
        steps: A layer that is called T times in one forward (recurrent attention) has T maps:
            ``'last'``, their ``'mean'``, or ``'all'`` stacked in front.
        reshape: Layout of the target: None finds it, ``'nchw'``, ``'nhwc'``, ``'tokens'``, or a
            function that brings the layer's output into ``(N, C, h, w)``.
        forward: ``forward(model, x) -> logits``; default ``model(x)``.

    Differs from the papers: Grad-CAM++ leaves out a positive factor per picture and class;
    HiResCAM is followed by a ReLU, as Grad-CAM; CAM has no ReLU, as in its paper.

    Raises:
        ValueError: Unknown method or steps; a target that gives no map (the message lists the
            candidates); ``'cam'`` where the head is not pooling plus linear; a score that does
            not depend on the target.
    """

    def __init__(
        self, model, method='gradcam', target=None, steps='last', reshape=None, forward=None
    ):
        if method not in METHODS:
            raise ValueError(f'cam must be one of {", ".join(METHODS)}, got {method!r}')
        if steps not in STEPS:
            raise ValueError(f'steps must be one of {", ".join(STEPS)}, got {steps!r}')
        self.model, self.method, self.target, self.steps = model, method, target, steps
        self.reshape = reshape
        self._run = (lambda x: forward(model, x)) if forward else model
        self.names = None  # target layers, known after the first batch
        self.analytic = False
        self.candidates = ()
        self._weight = None
        self._calls = {}
        self._seen = {}
        self._want_grad = False
        self._force_grad = False
        self._inside = None  # what leaving the context takes back
        self._grads = None

    def __enter__(self):
        self._inside = ExitStack()
        self._inside.enter_context(eval_mode(self.model))
        self._grads = [(p, p.requires_grad) for p in self.model.parameters()]
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)
        return self

    def __exit__(self, *_):
        self._inside.close()
        self._seen.clear()
        self.names = self._weight = None
        for parameter, requires_grad in self._grads:
            parameter.requires_grad_(requires_grad)
        self._inside = self._grads = None

    def prepare(self, x):
        """Looks at the network with one picture, fixes the target and the way to its gradient.

        Called by the first batch; call it yourself to know :attr:`names` earlier.

        Shape: ``x`` is ``(N, 3, H, W)``; only the first picture is used.
        """
        self._check_open()
        x = x[:1]
        layout = self.reshape if isinstance(self.reshape, str) else None
        visits, logits = visit(self.model, self._run, x)
        _check_logits(logits)
        self.candidates = tuple(visits)
        if callable(self.reshape) and self.target is None:
            raise ValueError('reshape is a function, so name the target layer it belongs to')
        if callable(self.reshape):
            self.names = [self.target] if isinstance(self.target, str) else None
            self.names = self.names or resolve(self.model, self.target, visits)
        elif self.target is None:
            self.names = [choose(self.model, self._run, x, visits)]
        else:
            self.names = resolve(self.model, self.target, visits)
        self._calls = {v.name: v.calls for v in visits}
        self._layout_kind = layout
        self._weight = self._closed_form(x, visits)
        self.analytic = self._weight is not None
        if self.method == 'cam' and not self.analytic:
            raise ValueError(
                f'cam needs global average pooling and one linear layer right behind '
                f'{", ".join(self.names)}; this network has something else there, use gradcam'
            )
        targets = {name: self.model.get_submodule(name) for name in self.names}
        self._inside.enter_context(hooks(targets, self._read))
        self._inside.enter_context(hooks(self.model.modules(), self._enable_grad, pre=True))
        return self

    def _closed_form(self, x, visits):
        if len(self.names) != 1 or self.steps != 'last' or callable(self.reshape):
            return None
        found = [v for v in visits if v.name == self.names[0]]
        layout = find_layout(found[0].shape, x.shape[-2:], self._layout_kind) if found else None
        if layout is None or layout.kind == 'tokens' and layout.prefix:
            return None
        return linear_tail(self.model, self._run, x, self.names[0], layout)

    def _read(self, name, module, inputs, output):
        tensor = last_tensor(output)
        calls = self._seen.setdefault(name, [])
        skip = self.steps == 'last' and len(calls) + 1 < self._calls.get(name, 1)
        if skip or not self._want_grad:
            calls.append(tensor)
            return None
        if tensor.is_inference():
            raise ValueError(
                f'layer {name!r} runs under torch.inference_mode, which hides its gradient; '
                'use torch.no_grad there'
            )
        torch.set_grad_enabled(True)
        leaf = tensor if tensor.requires_grad else tensor.detach().requires_grad_()
        calls.append(leaf)
        return replace_last(output, leaf.clone())  # a later in-place layer must not reach it

    def _enable_grad(self, module, inputs):
        if self._force_grad and self._want_grad:
            torch.set_grad_enabled(True)

    def __call__(self, x, classes):
        """Maps of the given classes for a batch.

        Args:
            x: Normalised pictures ``(N, 3, H, W)``.
            classes: ``(N, K)`` or ``(N,)`` class indices, or a function of the logits that
                returns them (to ask for the best classes without a second forward).

        Returns:
            A :data:`ScoreMapOutput`.
        """
        self._check_open()
        with torch.inference_mode(False), torch.enable_grad():
            x = x.clone() if x.is_inference() else x
            if self.names is None:
                self.prepare(x)
            if self.analytic:
                return self._closed_form_maps(x, classes)
            return self._gradient_maps(x, classes)

    def _closed_form_maps(self, x, classes):
        with torch.no_grad():
            logits = self._forward(x, want_grad=False)
            classes = _class_indices(classes, logits)
            act = _full(self._maps_of(self._seen[self.names[0]][-1], x))
            grad = self._weight[classes].to(act.dtype)  # (N, K, C)
            if self.method != 'cam':
                grad = grad / (act.shape[-2] * act.shape[-1])
            maps = weigh(self.method, grad[..., None, None], act)
        self._seen.clear()
        return ScoreMapOutput(maps, logits, classes)

    def _gradient_maps(self, x, classes):
        logits = self._forward(x, want_grad=True)
        if not logits.requires_grad and not self._force_grad:
            self._force_grad = True  # something behind the target runs under no_grad
            logits = self._forward(x, want_grad=True)
        if not logits.requires_grad:
            raise ValueError(f'the class scores do not depend on layer {", ".join(self.names)}')
        classes = _class_indices(classes, logits)
        picked = {n: [t for t in self._seen[n] if t.requires_grad] for n in self.names}
        tensors = [t for name in self.names for t in picked[name]]
        grads = iter(_gradients(logits.gather(1, classes), tensors))
        per_layer = []
        for name in self.names:
            steps = [self._weigh_step(t, next(grads), x, name) for t in picked[name]]
            per_layer.append(self._join_steps(steps, name))
        self._seen.clear()
        return ScoreMapOutput(_fuse(per_layer), logits.detach(), classes)

    def _weigh_step(self, tensor, grad, x, name):
        """One call's map; ``grad`` is ``(K, N, ...)`` or None."""
        if grad is None:
            raise ValueError(f'the class scores do not depend on layer {name}')
        act = _full(self._maps_of(tensor.detach(), x))
        k, n = grad.shape[:2]
        grad = _full(self._maps_of(grad.flatten(0, 1), x)).unflatten(0, (k, n)).transpose(0, 1)
        return weigh(self.method, grad, act)

    def _join_steps(self, steps, name):
        if self.steps == 'last':
            return steps[-1]
        if len({s.shape for s in steps}) > 1:
            shapes = [tuple(s.shape[-2:]) for s in steps]
            raise ValueError(f"layer {name!r} has maps of sizes {shapes}; use steps='last'")
        stack = torch.stack(steps)
        return stack if self.steps == 'all' else stack.mean(0)

    def _forward(self, x, want_grad):
        """Runs the network; again if a layer was called another number of times than expected."""
        self._want_grad = want_grad
        for _ in range(2):
            self._seen.clear()
            with torch.set_grad_enabled(torch.is_grad_enabled()):  # restores what hooks changed
                logits = self._run(x)
            counts = {name: len(self._seen.get(name, ())) for name in self.names}
            if self.steps != 'last' or all(counts[n] == self._calls.get(n, 1) for n in counts):
                break
            self._calls.update(counts)
        self._want_grad = False
        return logits

    def _maps_of(self, tensor, x):
        if callable(self.reshape):
            return self.reshape(tensor)
        layout = find_layout(tensor.shape, x.shape[-2:], self._layout_kind)
        if layout is None:
            raise ValueError(
                f'a target of shape {tuple(tensor.shape)} is no map of a '
                f'{x.shape[-2]} x {x.shape[-1]} input; give reshape a function'
            )
        return layout.to_maps(tensor)

    def _check_open(self):
        if self._inside is None:
            raise RuntimeError('ScoreMaps works inside a with block: with ScoreMaps(...) as maps:')


def _full(tensor):
    """Half precision to float32; other types as they are."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def _gradients(scores, tensors):
    """Gradients of scores ``(N, K)``: per tensor ``(K, N, ...)``, or None where unused."""
    k = scores.shape[1]
    if k == 1:
        grads = torch.autograd.grad(scores.sum(), tensors, allow_unused=True)
        return [None if g is None else g[None] for g in grads]
    rows = torch.eye(k, dtype=scores.dtype, device=scores.device)
    rows = rows[:, None].expand(k, *scores.shape)  # (K, N, K): one class of every picture a row
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


def _class_indices(classes, logits):
    classes = classes(logits.detach()) if callable(classes) else classes
    classes = torch.as_tensor(classes, device=logits.device)
    classes = classes[:, None] if classes.dim() == 1 else classes
    if classes.shape[0] != logits.shape[0]:
        raise ValueError(
            f'classes must have one row per picture ({logits.shape[0]}), got {classes.shape[0]}'
        )
    return classes


def _check_logits(logits):
    if not isinstance(logits, torch.Tensor) or logits.dim() != 2:
        shape = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise ValueError(f'the classifier must return scores of shape (N, classes), got {shape}')


def _fuse(per_layer):
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
