"""What all top-down networks (TDAM) share: steps, norms of the steps, loading, looking at steps.

A top-down block runs its last ``distance`` convolutions ``steps`` times. What they give in one
step (the *top*) decides through a searchlight how their input (the *bottom*) looks in the next.
Nothing here keeps anything between calls.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch.utils.checkpoint as cp
from mmengine.logging import print_log
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmattn.backbones._insert import AddedParts
from mmattn.core.identity import blend
from mmattn.core.modes import hooks
from mmattn.layers.searchlight import Searchlight

__all__ = [
    'TopDown',
    'TopDownNet',
    'at_step',
    'choose_blocks',
    'choose_preset',
    'count_steps',
    'outputs_per_step',
]


class TopDown:
    """Mixin for a residual block of a host that runs its last convolutions several times.

    The equations, with f the last m convolutions: ``Y_1 = f(X_1)``, ``X_{k+1} =
    searchlight(X_k, Y_k)``, ``Y_{k+1} = f(X_{k+1})``, and the block continues with ``Y_t``. The
    shortcut takes the block's unchanged input. With ``steps=1`` the host's own ``forward`` runs.

    Paper: TDAM, ECCV 2022, arXiv 2111.13470, equations 1 to 3.

    Differs from the paper: nothing; it does not mention the norms. As in the authors' code every
    norm after the bottom exists once for each step, the convolutions are shared. Their code
    leaves norms out of the later steps when per-step norms are off; here they cannot be off.
    ``distance=0`` (top and bottom are both the last norm's output) applies the searchlight
    ``steps`` times, as the authors' code does, and not ``steps - 1``.

    A subclass says how many links (convolution, norm, activation) its branch has, runs one of
    them, and finishes the block.
    """

    links = 0  # convolutions that can be repeated, the last one of the branch included
    distances: tuple = ()  # values of ``distance`` the block knows
    steps = 1  # until :meth:`add_steps`

    def run_link(self, index: int, x: Tensor, step: int) -> Tensor:
        """Convolution number ``index`` (from 1) with the norm of ``step`` (from 0)."""
        raise NotImplementedError

    def start(self, x: Tensor) -> Tensor:
        """From the block's input to the input of the first link."""
        return x

    def finish(self, x: Tensor, out: Tensor) -> Tensor:
        """From the branch's output ``out`` and the block's input to what a checkpoint keeps."""
        raise NotImplementedError

    def activate(self, out: Tensor) -> Tensor:
        """Do what the framework does after the addition, outside of its checkpoint."""
        return out

    def link_norm(self, index: int) -> tuple[nn.Module, str] | None:
        """Return the module that holds the norm of a link and the norm's name, if it has one."""
        return None

    def attend(self, bottom: Tensor, top: Tensor) -> Tensor:
        """Return the bottom of the next step."""
        return self.searchlight(bottom, top)

    def add_steps(
        self,
        widths: Sequence[int],
        steps: int = 2,
        distance: int = 1,
        init: str = 'paper',
        **options,
    ) -> None:
        """Give the built block its searchlight and the norms of the steps.

        Args:
            widths: channels at the start, after link 1, ..., after the last link.
            steps: t, 1 for the plain block.
            distance: m.
            init: ``'paper'`` or ``'identity'``.
            options: ``attention``, ``reduction``, ``operation`` of
                :class:`~mmattn.layers.searchlight.Searchlight`.

        Raises:
            ValueError: ``steps`` below 1, a ``distance`` the block does not know, and what
                :class:`~mmattn.layers.searchlight.Searchlight` raises.
        """
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
            raise ValueError(f'steps must be a whole number >= 1, got {steps!r}')
        if distance not in self.distances:
            raise ValueError(
                f'distance must be one of {self.distances} in a {type(self).__name__}, '
                f'got {distance!r}'
            )
        searchlight = Searchlight(
            widths[self.links - distance], widths[self.links], init=init, **options
        )
        self.distance = distance
        if steps == 1:
            return  # the host's block, with nothing that would never get a gradient
        self.steps = steps
        self.searchlight = searchlight
        for index in self.repeated:
            place = self.link_norm(index)
            if place is not None:
                _add_norms(*place, steps)
        self.protect_from_fusing()

    @property
    def repeated(self) -> range:
        """Numbers of the links that run in every step."""
        return range(self.links - self.distance + 1, self.links + 1)

    def protect_from_fusing(self) -> None:
        """Keep the hosts' ``fuse_conv_bn`` away from convolutions that feed several norms.

        It fuses a convolution with the norm that follows among the children, whatever runs.
        """

    def norm_of(self, index: int, step: int) -> nn.Module:
        """Return the norm of a link in one step, looked up in every call (it may be exchanged)."""
        module, name = self.link_norm(index)
        return getattr(
            module, name if step == 0 or index not in self.repeated else f'{name}_{step}'
        )

    def branch(self, x: Tensor, steps: int | None = None, whole: bool = True) -> list:
        """Every ``Y_k`` of the branch; the last entry is the one of step ``steps``.

        One entry a step, after one of the plain branch with ``distance=0``. Without ``whole``
        the entries before the last may be means over all positions, ``(N, C, 1, 1)``: exact.
        """
        bottom = self.start(x)
        for index in range(1, self.links - self.distance + 1):
            bottom = self.run_link(index, bottom, 0)
        count = (self.steps if steps is None else steps) + (self.distance == 0)
        tops = []
        for step in range(count):
            if step:
                bottom = self.attend(bottom, tops[-1])
            if whole or step == count - 1 or not self.keeps_means(step):
                tops.append(self.run_links(bottom, step))
            else:
                tops.append(self.run_links(bottom.mean((2, 3), keepdim=True), step))
        return tops

    def keeps_means(self, step: int) -> bool:
        """Whether the mean of a step's top is the top of its bottom's mean.

        So it is where one 1x1 convolution and a norm with fixed statistics lie between them. The
        searchlight sees only the mean, so the whole top of an early step need not be computed.
        """
        return False

    def run_links(self, x: Tensor, step: int) -> Tensor:
        """All repeated links of one step."""
        for index in self.repeated:
            x = self.run_link(index, x, step)
        return x

    def run(self, x: Tensor, steps: int | None) -> Tensor:
        gamma, operation = self.searchlight.gamma, self.searchlight.operation
        tops = self.branch(x, steps, whole=gamma is not None or operation == 'recurrent')
        return self.finish(x, blend(tops[0], tops[-1], gamma))

    def forward(self, x: Tensor, steps: int | None = None) -> Tensor:
        """Run the block; ``steps`` stops it early (1 to ``self.steps``)."""
        if self.steps == 1:
            return super().forward(x)
        if self.with_cp and x.requires_grad:
            out = cp.checkpoint(self.run, x, steps, use_reentrant=False)
        else:
            out = self.run(x, steps)
        return self.activate(out)

    def forward_steps(self, x: Tensor) -> list:
        """Return the block's output had it stopped at step 1, 2, ..., ``steps``: as many maps."""
        if self.steps == 1:
            return [self(x)]
        tops = self.branch(x)
        gamma = self.searchlight.gamma
        outs = [blend(tops[0], top, gamma) for top in tops[-self.steps :]]
        return [self.activate(self.finish(x, out.clone())) for out in outs]

    def step_norms(self) -> dict:
        """``{name of a later step's norm: name of the step before}``, in a checkpoint's words."""
        names = {}
        if self.steps == 1:
            return names
        prefix = {module: f'{name}.' if name else '' for name, module in self.named_modules()}
        for index in self.repeated:
            place = self.link_norm(index)
            if place is not None:
                module, name = place
                for step in range(1, self.steps):
                    before = name if step == 1 else f'{name}_{step - 1}'
                    names[f'{prefix[module]}{name}_{step}'] = f'{prefix[module]}{before}'
        return names


def is_pointwise(conv: nn.Module, norm: nn.Module) -> bool:
    """Tell a plain 1x1 convolution and a BatchNorm in eval mode: one linear map everywhere.

    Not where a hook watches one of them (a counter, a tool for activation maps): it is to see
    whole maps.
    """
    watched = (m._forward_hooks or m._forward_pre_hooks for m in (conv, norm))
    return (
        type(conv).__name__ == 'Conv2d'  # torch's or mmcv's, nothing derived from them
        and conv.kernel_size == conv.stride == (1, 1)
        and conv.padding == (0, 0)
        and isinstance(norm, _BatchNorm)
        and not norm.training
        and norm.running_mean is not None
        and not any(watched)
    )


def _add_norms(module: nn.Module, name: str, steps: int) -> None:
    for step in range(1, steps):
        module.add_module(f'{name}_{step}', copy.deepcopy(getattr(module, name)))


def move_to_end(module: nn.Module, name: str) -> None:
    """Make a child the last one; names and therefore checkpoints stay."""
    module._modules[name] = module._modules.pop(name)


class TopDownNet(AddedParts):
    """Mixin for a network with top-down blocks.

    ``frozen_stages`` freezes no searchlight (no checkpoint of the plain network has one). The
    norms of the steps are frozen, and kept in eval mode by ``norm_eval``, like the norm they
    belong to: when a checkpoint of the plain network is loaded they become copies of it.
    """

    def settle(self) -> None:
        """Call at the end of the constructor, when all top-down blocks are in place."""
        self._added = frozenset(name for name in self._names() if 'searchlight' in name.split('.'))
        self._freeze_stages()  # the new norms of a frozen stage as well
        for parameter in self.added_parameters().values():
            parameter.requires_grad_(True)

    def top_down_blocks(self) -> dict:
        """Name -> block, in the order in which they run; those with one step are plain."""
        return {
            name: module
            for name, module in self.named_modules()
            if isinstance(module, TopDown) and module.steps > 1
        }

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args, **kwargs) -> None:
        copied = self.adapt_checkpoint(state_dict, prefix)
        if copied:
            print_log(
                f'{type(self).__name__}: the checkpoint has no norms for the later steps; '
                f'{len(copied)} norms are copies of the step before ({copied[0]}, ...)',
                'current',
            )
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def adapt_checkpoint(self, state_dict: dict, prefix: str) -> list:
        """Put the norms of later steps that a checkpoint lacks into it; returns their names."""
        copied = []
        for block_name, block in self.top_down_blocks().items():
            for new, old in block.step_norms().items():
                here, there = (f'{prefix}{block_name}.{name}.' for name in (new, old))
                if any(key.startswith(here) for key in state_dict):
                    continue
                found = {k[len(there) :]: v for k, v in state_dict.items() if k.startswith(there)}
                state_dict.update({here + key: value for key, value in found.items()})
                if found:
                    copied.append(f'{block_name}.{new}')
        return copied


def choose_preset(
    presets: Mapping[str, dict], preset: str | None, name: str, value: Any, **given: Any
) -> tuple[Any, dict[str, Any]]:
    """Join what a preset says with what was given beside it.

    Args:
        presets: All presets; each says which network it is of, and options of its blocks.
        preset: The one that was asked for, or None.
        name: What a network is called by: ``'depth'``, ``'arch'``.
        value: The network that was asked for, or None.
        given: Options of the blocks; they win over the preset's, None leaves its value.

    Returns:
        The network, and the options.

    Raises:
        ValueError: An unknown preset, or another network than the preset's.
    """
    if preset is not None and preset not in presets:
        raise ValueError(f'preset must be one of {tuple(presets)}, got {preset!r}')
    chosen = dict(presets.get(preset, {}))
    known = chosen.pop(name, value)
    if value not in (None, known):
        raise ValueError(f'{name} must be {known!r} (or left out) with {preset!r}, got {value!r}')
    chosen.update({key: option for key, option in given.items() if option is not None})
    return known, chosen


def choose_blocks(blocks: Sequence | None, depths: Sequence[int], default: Sequence[int]) -> list:
    """Which blocks of every stage are top-down.

    Args:
        blocks: for every stage the indices of its blocks (from the end: -1), or None for all of
            them; None: all blocks of the ``default`` stages.
        depths: number of blocks of every stage.
        default: indices of stages.

    Returns:
        A sorted list of indices for every stage.

    Raises:
        ValueError: another number of stages, or an index out of range.
    """
    if blocks is None:
        return [list(range(d)) if i in default else [] for i, d in enumerate(depths)]
    if isinstance(blocks, str) or not isinstance(blocks, Sequence) or len(blocks) != len(depths):
        raise ValueError(
            f'blocks must hold a list of indices or None for each of the {len(depths)} stages, '
            f'got {blocks!r}'
        )
    chosen = []
    for stage, (indices, depth) in enumerate(zip(blocks, depths)):
        indices = range(depth) if indices is None else indices
        for index in indices if isinstance(indices, Sequence) else [indices]:
            if isinstance(index, bool) or index not in range(-depth, depth):
                raise ValueError(
                    f'blocks of stage {stage} must be from 0 to {depth - 1} (or from the end, '
                    f'-{depth} to -1), got {index!r}'
                )
        chosen.append(sorted({index % depth for index in indices}))
    return chosen


def _last_blocks(model: nn.Module) -> list:
    """Return the top-down blocks of the last stage that has any, of every top-down network."""
    found = []
    for net in model.modules():
        if isinstance(net, TopDownNet):
            blocks = net.top_down_blocks()
            stages = [net.stage_of(name) for name in blocks]
            found += [b for b, stage in zip(blocks.values(), stages) if stage == max(stages)]
    return found


def count_steps(model: nn.Module) -> int:
    """How many steps the last top-down stage of a model runs; 1 where there is none."""
    return max((block.steps for block in _last_blocks(model)), default=1)


@contextmanager
def at_step(model: nn.Module, step: int) -> Iterator[nn.Module]:
    """Inside, ``model`` gives what it would give had its last top-down stage stopped at ``step``.

    The earlier stages run all their steps, as in the authors' evaluation of steps. Works on a
    backbone and on any model that holds one. Not for two threads at once.

    Args:
        model: a model with a TDResNet, TDConvNeXt or TDMobileNetV3 in it.
        step: from 1 to the number of steps.

    Raises:
        ValueError: no top-down block in the model, or a step out of range.
    """
    blocks = _last_blocks(model)
    if not blocks:
        raise ValueError(f'model must have a top-down block, got {type(model).__name__} with none')
    steps = max(block.steps for block in blocks)
    if isinstance(step, bool) or step not in range(1, steps + 1):
        raise ValueError(f'step must be from 1 to {steps}, got {step!r}')
    with hooks(blocks, partial(_stop, step), pre=True, with_kwargs=True):
        yield model


def _stop(step: int, block: nn.Module, args: tuple, kwargs: dict) -> tuple:
    """Forward pre-hook that tells a block where to stop."""
    return args, {**kwargs, 'steps': min(step, block.steps)}


def outputs_per_step(model: nn.Module, *args, forward: Callable | None = None, **kwargs) -> list:
    """Return what a model gives at every step: ``[model at step 1, ..., model at the last step]``.

    With a classifier of mmpretrain ``outputs_per_step(model, x, mode='tensor')`` is a list of
    logits. Costs one whole forward pass a step.

    Args:
        model: see :func:`at_step`.
        args, kwargs: what the model gets.
        forward: called as ``forward(model, *args, **kwargs)`` in place of the model.

    Raises:
        ValueError: no top-down block in the model.
    """
    outs = []
    for step in range(1, count_steps(model) + 1):
        with at_step(model, step):
            outs.append(forward(model, *args, **kwargs) if forward else model(*args, **kwargs))
    return outs
