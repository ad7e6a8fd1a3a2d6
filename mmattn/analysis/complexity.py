"""Parameters and multiply-accumulates of a network, and what each inserted module adds."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mmattn.convs.aa_conv import AAConv2d
from mmattn.convs.aw_conv import AWConv2d
from mmattn.core.config import read_config
from mmattn.core.modes import eval_mode, hooks
from mmattn.layers._gate import Gate

__all__ = ['Complexity', 'Cost', 'measure_complexity', 'measure_config', 'measure_model']


@dataclass(frozen=True)
class Cost:
    """Parameters and multiply-accumulates (the figure papers print as "FLOPs")."""

    params: int
    macs: int


@dataclass(frozen=True)
class Complexity(Cost):
    """Cost of a network for one call.

    Args:
        params: of the whole network.
        macs: of the call.
        added: what each inserted module adds, by name, in the network's order.
        left_out: the part of the network that ``macs`` are without, if any.
    """

    added: dict[str, Cost] = field(default_factory=dict)
    left_out: str = ''

    def minus(self, other: 'Complexity') -> Cost:
        """Return what this network costs more than another."""
        return Cost(self.params - other.params, self.macs - other.macs)

    @property
    def all_added(self) -> Cost:
        """The sum over all inserted modules."""
        costs = self.added.values()
        return Cost(sum(c.params for c in costs), sum(c.macs for c in costs))


def measure_config(
    path: str | Path, shape: tuple[int, int], options: Mapping[str, Any] | None = None
) -> Complexity:
    """Count one image of ``shape`` through the model of a config (:func:`measure_model`).

    Args:
        path: a config of mmdet or mmpretrain; its weights are not loaded, counts need none.
        shape: height and width.
        options: settings to change, ``{'model.backbone.depth': 18}``.

    Raises:
        FileNotFoundError: there is no such config.
    """
    cfg = read_config(path)
    cfg.merge_from_dict(dict(options or {}))
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    torch.manual_seed(0)
    return measure_model(MODELS.build(cfg.model), shape)


def measure_model(model: nn.Module, shape: tuple[int, int]) -> Complexity:
    """Count one image of ``shape`` through a detector or classifier.

    The heads of a two-stage detector that look at proposals are left out of ``macs``: what they
    cost follows the number of proposals, which an untrained network draws at random. What was
    inserted into them is still listed in ``added``, for the proposals of this call.

    Args:
        model: a detector of mmdet or a classifier of mmpretrain.
        shape: height and width.
    """
    image = torch.rand(1, 3, *shape)
    if getattr(model, 'roi_head', None) is not None:
        whole = measure_complexity(model, image, _samples(shape), mode='tensor')
        dense = measure_complexity(model, image, forward=_before_proposals)
        return Complexity(whole.params, dense.macs, whole.added, 'roi_head')
    if hasattr(model, 'bbox_head'):
        return measure_complexity(model, image, _samples(shape), mode='tensor')
    return measure_complexity(model, image, mode='tensor')


def _before_proposals(model: nn.Module, image: Tensor) -> None:
    maps = model.extract_feat(image)
    if getattr(model, 'rpn_head', None) is not None:
        model.rpn_head(maps)


def _samples(shape: tuple[int, int]) -> list:
    from mmdet.structures import DetDataSample

    sizes = dict.fromkeys(('img_shape', 'ori_shape', 'batch_input_shape', 'pad_shape'), shape)
    return [DetDataSample(metainfo=dict(sizes, scale_factor=(1.0, 1.0), img_id=0))]


def measure_complexity(
    model: nn.Module, *inputs: object, forward: Callable | None = None, **options: object
) -> Complexity:
    """Run a model once in eval mode and count what it computes.

    Counted where torch executes it, so functional code is counted like modules: convolutions,
    linear layers and matrix products, without biases, norms and element-wise functions, except
    for one: an AW-convolution also counts its product A * K, ``C2 * C1 / groups * h * w`` for
    each image, whichever way the engine takes (METHODS: the papers' tables include it).

    Args:
        model: any module; its mode and gradients are left as they were.
        forward: called as ``forward(model, *inputs)`` in place of the model.
        inputs, options: passed to ``model``; one image gives the figure papers print. Tensors
            on the ``meta`` device (with the model there too) compute nothing.

    Returns:
        The totals, and for every inserted gate its whole cost, for every drop-in convolution
        what it costs beyond the plain one.
    """
    counter = _Counter()
    inserted = {name: m for name, m in model.named_modules() if _is_inserted(m)}
    plain = [m for m in model.modules() if isinstance(m, nn.Conv2d) and not _is_inserted(m)]
    with (
        hooks(inserted.values(), counter.enter, pre=True),
        hooks(inserted, counter.leave),
        hooks(plain, _watch),  # what is watched computes all of its output (TDAM)
        eval_mode(model),
        torch.no_grad(),
        counter.mode,
    ):
        (forward or _call)(model, *inputs, **options)
    added = {
        name: Cost(_added_params(model.get_submodule(name)), macs)
        for name, macs in counter.added.items()
    }
    params = sum(parameter.numel() for parameter in model.parameters())
    return Complexity(params, counter.total(), added)


def _call(model: nn.Module, *inputs: object, **options: object) -> None:
    model(*inputs, **options)


def _watch(module: nn.Module, inputs: tuple, out: Tensor) -> None:
    """Do nothing, as a hook."""


class _Counter:
    """torch's own counter, read before and after every inserted module."""

    def __init__(self) -> None:
        self.mode = FlopCounterMode(display=False)
        self.products = 0  # A * K of the AW-convolutions
        self.added: dict[str, int] = {}
        self._before: list[int] = []

    def total(self) -> int:
        return self.mode.get_total_flops() // 2 + self.products  # torch counts 2 a product

    def enter(self, module: nn.Module, inputs: tuple) -> None:
        self._before.append(self.total())

    def leave(self, name: str, module: nn.Module, inputs: tuple, out: Tensor) -> None:
        own_attention = module if isinstance(module, AWConv2d) else None
        if isinstance(module, AAConv2d) and module.branch is not None:
            own_attention = module
        if own_attention is not None:
            self.products += inputs[0].shape[0] * own_attention.weight.numel()
        cost = self.total() - self._before.pop() - _plain_macs(module, out)
        if not self._before:  # part of another inserted module otherwise
            self.added[name] = self.added.get(name, 0) + cost


def _is_inserted(module: nn.Module) -> bool:
    return isinstance(module, (Gate, AWConv2d, AAConv2d))


def _plain_macs(module: nn.Module, out: Tensor) -> int:
    """Return what the plain convolution in the module's place would compute."""
    if not isinstance(module, nn.Conv2d):
        return 0
    return out.numel() * module.weight[0].numel()


def _added_params(module: nn.Module) -> int:
    params = sum(parameter.numel() for parameter in module.parameters())
    if isinstance(module, nn.Conv2d):
        plain = module.out_channels * module.weight[0].numel()
        params -= plain + (module.out_channels if module.bias is not None else 0)
    return params
