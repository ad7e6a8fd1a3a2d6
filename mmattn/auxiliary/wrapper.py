"""SSIA around any detector or classifier, for the training only."""

from collections.abc import Sequence
from contextlib import contextmanager
from functools import partial

import torch
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.registry import MODELS as ROOT_MODELS
from torch import Tensor, nn

from mmattn.auxiliary.ssia import Pooled, SSIABlock, pool
from mmattn.core.front import Front
from mmattn.core.modes import eval_mode, hooks
from mmattn.core.names import listed
from mmattn.registry import HOOKS, MODELS

__all__ = ['SSIA', 'SSIAHook']

SCHEMES = ('cascaded', 'final', 'identity')


@MODELS.register_module()
class SSIA(Front):
    r"""Any detector or classifier with the losses of SSIA beside its own while it trains.

    The result *is* the wrapped model: an instance of its class (and of ``SSIA``), with its
    attributes and its names in a checkpoint. In ``mode='loss'`` the summaries of some maps are
    taken on their way and ``loss_ssia_{block}_spatial`` and ``loss_ssia_{block}_channel`` are
    added; every other mode is the wrapped model's own. The predictors are in its child ``ssia``,
    which its ``state_dict()`` leaves out: a checkpoint is that of the plain model. Put
    ``custom_hooks=[dict(type='mmattn.SSIAHook')]`` into the config, and they are saved beside it
    and a resumed training goes on with them.

    Paper: Self-Supervised Implicit Attention: Guided Attention by The Model Itself, arXiv
    2206.07434; the loss is :class:`mmattn.auxiliary.SSIABlock`.

    Differs from the paper: maps of pictures of any size are resized to fixed grids (in detection,
    which the paper does not try). Where its text contradicts itself, ``lambda_s, lambda_c = 0.5,
    1.5``: the text of its table 1 gives these for the row with both signals, whose figures are
    also the "cascaded" ones of table 2 and ResNet-50's of table 5; the section on settings gives
    1, 3, which table 1 has for a signal alone.

    Args:
        model: config of the detector or classifier.
        taps: the maps, low to high: names of modules (as ``named_modules()`` gives them) or
            numbers of the backbone's stages as its ``out_indices`` counts them. A module that runs
            several times in one forward counts with its last run.
        scheme: which tap predicts which. ``'cascaded'``: each the next one; ``'final'``: each the
            last one; ``'identity'``: each but the last itself; or pairs ``(low, high)`` of taps.
            A signal has the size of the next tap (of the high one where pairs are given).
        sample: a picture ``(channels, height, width)``; the sizes of its maps are the grids.
        loss_weight: weight of all losses of SSIA together (0.2 in the paper, whose eta is another
            thing: the lower one of ``thresholds``).
        lambdas: weights of the blocks, low to high; ``None``: 1, 2, 3, ... The paper's 1, 2, 3
            belong to the low maps of stages 0, 1 and 2: with taps that start at stage 1, as in a
            detector with stage 0 frozen, its weights are ``(2, 3)``.
        warmup: in so many training iterations first, the predictors learn from detached maps and
            the wrapped model learns from its own losses alone.
        data_preprocessor: of the wrapped model, where its own config has none (the runner passes
            a config's top-level entry here).
        block: options of every block, see :class:`mmattn.auxiliary.SSIABlock`: ``lambda_s``,
            ``lambda_c``, ``hidden``, ``normaliser``, ``thresholds``, ``norm_input``,
            ``resize_input``, ``norm``.

    Shape: as the wrapped model.

    Raises:
        TypeError: an unknown option, ``model`` or ``taps`` of another type.
        ValueError: a tap that is no stage or module or gives no ``(N, C, H, W)`` map, taps or a
            pair in the wrong order, an option out of range, a ``sample`` the model cannot take; in
            training, a low map that no gradient passes (a frozen stage, or the inside of a
            checkpointed block).
    """

    def __new__(cls, model, *args, data_preprocessor=None, **kwargs):
        if not isinstance(model, dict):
            raise TypeError(f'model must be a config (dict), got {type(model).__name__}')
        given = {} if data_preprocessor is None else dict(data_preprocessor=data_preprocessor)
        net = ROOT_MODELS.build({**given, **model})
        return cls.in_front_of(net)  # Python calls __init__ on it: it is an SSIA now

    def __init__(
        self,
        model: dict,
        taps: Sequence,
        scheme='cascaded',
        sample: tuple[int, int, int] = (3, 224, 224),
        loss_weight: float = 0.2,
        lambdas: Sequence[float] | None = None,
        warmup: int = 0,
        data_preprocessor: dict | None = None,
        **block,
    ) -> None:
        if 'eta' in block:
            raise TypeError(
                'eta is the threshold on the signals in the paper, 0.5, here the first of '
                'thresholds=(0.5, 10); the weight of all losses is loss_weight, '
                f'got eta={block["eta"]}'
            )
        if not isinstance(taps, Sequence) or isinstance(taps, str):
            raise TypeError(f'taps must be a list of numbers or names, got {taps!r}')
        names = [_module_name(self, tap) for tap in taps]
        sizes = _trial(self, names, sample)
        pairs = _pairs(list(taps), scheme)
        lambdas = tuple(range(1, len(pairs) + 1)) if lambdas is None else tuple(lambdas)
        if len(lambdas) != len(pairs):
            raise ValueError(
                f'lambdas must have one weight for each of {len(pairs)} blocks, got {lambdas}'
            )
        weights = [
            ('loss_weight', loss_weight),
            *(('lambdas', v) for v in lambdas),
            ('warmup', warmup),
        ]
        for name, value in weights:
            if not value >= 0:  # also NaN
                raise ValueError(f'{name} must be >= 0, got {value}')
        self.ssia = _Blocks(
            [
                SSIABlock(sizes[low][0], sizes[low][1:], sizes[high][0], sizes[grid][1:], **block)
                for low, high, grid in pairs
            ],
            [(names[low], names[high]) for low, high, _ in pairs],
            [loss_weight * value for value in lambdas],
            warmup,
        )
        self._register_state_dict_hook(_leave_out)
        self.register_load_state_dict_post_hook(_not_missing)

    def forward(self, inputs, data_samples=None, mode: str = 'tensor', **kwargs):
        if mode != 'loss':
            return super().forward(inputs, data_samples, mode=mode, **kwargs)
        with _watch(self, self.ssia.taps) as pooled:
            losses = super().forward(inputs, data_samples, mode=mode, **kwargs)
        return {**losses, **self.ssia(pooled)}

    @torch.no_grad()
    def spatial_signals(self, inputs: Tensor) -> list[tuple]:
        """What every block with a spatial loss predicts, and what it is asked for.

        Returns:
            Per block: its two taps, F_s and G_s.

        Shape: ``inputs`` (N, 3, H, W), F_s and G_s (N, 1, H', W').
        """
        with _watch(self, self.ssia.taps) as pooled:
            getattr(self, 'extract_feat', self)(inputs)
        found = []
        for block, (low, high) in zip(self.ssia.blocks, self.ssia.pairs):
            predicted, signals = block.predict(pooled[low]), block.signals(pooled[high])
            if 'spatial' in predicted:
                shape = (len(inputs), 1, *block.high_size)
                maps = (predicted['spatial'].reshape(shape), signals['spatial'].reshape(shape))
                found.append(((low, high), *maps))
        return found


class _Blocks(nn.Module):
    """All blocks of a model, and how far its training is."""

    def __init__(self, blocks: list, pairs: list, weights: list, warmup: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.pairs = pairs
        self.weights = weights
        self.warmup = warmup
        self.register_buffer('iteration', torch.zeros((), dtype=torch.long))

    @property
    def taps(self) -> set:
        return {name for pair in self.pairs for name in pair}

    def forward(self, pooled: dict[str, Pooled]) -> dict[str, Tensor]:
        """The losses by name, from the summaries by tap."""
        started = self.iteration >= self.warmup  # a tensor: no wait for the device
        if self.training:
            self.iteration += 1
        losses = {}
        for number, (block, (low, high)) in enumerate(zip(self.blocks, self.pairs)):
            for tap in (low, high):
                if tap not in pooled:
                    raise ValueError(f'tap {tap!r} did not run in this forward')
            if self.training and torch.is_grad_enabled() and not pooled[low].channel.requires_grad:
                raise ValueError(
                    f'tap {low!r} gets no gradient, so nothing below it could learn: it is '
                    'frozen (frozen_stages), or inside a block that runs with_cp; take a later '
                    'tap, or the module around it'
                )
            below = _let_through(started, pooled[low]) if self.warmup else pooled[low]
            for name, loss in block.losses(below, pooled[high]).items():
                losses[f'loss_ssia_{number}_{name}'] = self.weights[number] * loss
        return losses


def _let_through(started: Tensor, low: Pooled) -> Pooled:
    """The same values; a gradient passes only where ``started`` is true."""
    return Pooled(*(torch.where(started, x, x.detach()) for x in low))


@HOOKS.register_module()
class SSIAHook(Hook):
    """Keeps the predictors of SSIA in a checkpoint, beside the weights of the plain model.

    They are its entry ``ssia``. A training that goes on from it gets them back; a plain model
    never sees them.
    """

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Add the predictors."""
        checkpoint['ssia'] = {key: v.cpu() for key, v in _of(runner).state_dict().items()}

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Take the predictors, where the checkpoint has them and they fit."""
        own, saved = _of(runner).state_dict(), checkpoint.get('ssia', {})
        if {k: v.shape for k, v in own.items()} == {k: v.shape for k, v in saved.items()}:
            _of(runner).load_state_dict(saved)
        else:
            print_log(
                'SSIA: the predictors start anew, the checkpoint has '
                f'{"others" if saved else "none"}.',
                logger='current',
            )


def _of(runner) -> nn.Module:
    """The predictors of a runner's model."""
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    if not isinstance(model, SSIA):
        raise ValueError(
            f"mmattn.SSIAHook needs a model of type 'mmattn.SSIA', got {type(model).__name__}"
        )
    return model.ssia


def _leave_out(module: nn.Module, state: dict, prefix: str, metadata: dict) -> None:
    """State-dict hook: the predictors are no part of the model."""
    for key in [key for key in state if key.startswith(f'{prefix}ssia.')]:
        del state[key]


def _not_missing(module: nn.Module, keys) -> None:
    """Load hook: what a state dict never has is not missing from it."""
    own = tuple(f'ssia.{key}' for key in module.ssia.state_dict())
    keys.missing_keys[:] = [key for key in keys.missing_keys if not key.endswith(own)]


def _stages(net: nn.Module) -> list[str]:
    """The names of the modules that end the stages of a model's backbone."""
    backbone = getattr(net, 'backbone', None)
    if hasattr(backbone, 'range_sub_modules'):  # VGG
        ends = (end - 1 for _, end in backbone.range_sub_modules)
        return [f'backbone.{backbone.module_name}.{end}' for end in ends]
    for kind in ('res_layers', 'layers', 'stages'):
        stages = getattr(backbone, kind, ())
        if len(stages):
            return [
                f'backbone.{stage if isinstance(stage, str) else f"{kind}.{number}"}'
                for number, stage in enumerate(stages)
            ]
    return []


def _module_name(net: nn.Module, tap) -> str:
    """The name of a tap's module."""
    if isinstance(tap, int):
        stages = _stages(net)
        if tap not in range(len(stages)):
            allowed = f'0 to {len(stages) - 1}' if stages else 'names of modules (no stages here)'
            raise ValueError(f'taps of {net._host_class.__name__} must be {allowed}, got {tap}')
        return stages[tap]
    names = [name for name, _ in net.named_modules() if name]
    if tap not in names:
        raise ValueError(
            f'taps must name modules of {net._host_class.__name__}, got {tap!r}; '
            f'there are {listed(tap, names, limit=10)}'
        )
    return tap


def _pairs(taps: list, scheme) -> list[tuple[int, int, int]]:
    """Places among the taps of every block's low map, high map and the grid of its signal."""
    if len(set(taps)) < len(taps) or len(taps) < 2:
        raise ValueError(f'taps must be two or more different ones, got {taps}')
    last = len(taps) - 1
    if isinstance(scheme, str):
        highs = dict(cascaded=range(1, last + 1), final=[last] * last, identity=range(last))
        if scheme not in highs:
            raise ValueError(f'scheme must be one of {SCHEMES} or pairs of taps, got {scheme!r}')
        return [(low, high, low + 1) for low, high in enumerate(highs[scheme])]
    pairs = []
    for pair in scheme:
        if len(pair) != 2 or any(tap not in taps for tap in pair):
            raise ValueError(f'scheme must hold pairs of the taps {taps}, got {pair}')
        low, high = map(taps.index, pair)
        if low > high:
            raise ValueError(f'scheme must give pairs as (low, high), got {tuple(pair)} reversed')
        pairs.append((low, high, high))
    if not pairs:
        raise ValueError('scheme must hold at least one pair, got none')
    return pairs


def _trial(net: nn.Module, names: list, sample: tuple) -> list[tuple[int, int, int]]:
    """Run the network once: ``(C, H, W)`` of the map of every tap.

    Raises:
        ValueError: a tap gives no map, or runs before the one in front of it.
    """
    like = next(net.parameters())
    try:
        x = torch.zeros(1, *sample, device=like.device, dtype=like.dtype)
    except (TypeError, RuntimeError) as error:
        raise ValueError(f'sample must be (channels, height, width), got {sample!r}') from error
    try:
        with eval_mode(net), torch.no_grad(), _watch(net, names) as pooled:
            getattr(net, 'extract_feat', net)(x)
    except RuntimeError as error:
        reason = str(error).split('\n')[0]
        raise ValueError(
            f'sample must be a picture {net._host_class.__name__} can take, got {sample!r}: '
            f'{reason}'
        ) from error
    for name in names:
        if name not in pooled:
            raise ValueError(f'taps must run in the backbone or neck, {name!r} does not')
    order = [name for name in pooled if name in names]
    for name, place in zip(names, order):
        if name != place:
            raise ValueError(f'taps must go from low to high, got {names}, which run as {order}')
    return [(pooled[n].channel.shape[1], *pooled[n].spatial.shape[2:]) for n in names]


@contextmanager
def _watch(net: nn.Module, names):
    """Collect the summaries of the named modules' outputs while the context is open.

    They are taken at once, before a layer in place can change the map; and no hook is left for
    the second run of a checkpointed block, in the backward pass.
    """
    pooled: dict[str, Pooled] = {}
    with hooks({name: net.get_submodule(name) for name in names}, partial(_note, pooled)):
        yield pooled


def _note(pooled: dict, name: str, module: nn.Module, inputs: tuple, output) -> None:
    if not isinstance(output, Tensor) or output.dim() != 4:
        got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise ValueError(f'tap {name!r} must give one (N, C, H, W) map, got {got}')
    pooled.pop(name, None)  # a later run takes the later place
    pooled[name] = pool(output)
