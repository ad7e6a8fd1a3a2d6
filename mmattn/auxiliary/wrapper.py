"""SSIA around any detector or classifier, for the training only."""

import inspect
from collections.abc import Callable, Sequence
from functools import partial

import torch
from mmengine.registry import MODELS as ROOT_MODELS
from torch import Tensor, nn

from mmattn.auxiliary import taps as _taps
from mmattn.auxiliary.ssia import Pooled, SSIABlock
from mmattn.core.front import Front
from mmattn.core.names import did_you_mean
from mmattn.registry import MODELS

__all__ = ['SSIA', 'plain_config']

SCHEMES = ('cascaded', 'final', 'identity')
_BLOCK_OPTIONS = {
    name
    for name, parameter in inspect.signature(SSIABlock).parameters.items()
    if parameter.kind is parameter.KEYWORD_ONLY
}
_OWN = {'type', 'model', 'wrapped', 'taps', 'scheme', 'sample', 'loss_weight', 'lambdas', 'warmup'}


@MODELS.register_module()
class SSIA(Front):
    r"""Any detector or classifier with the losses of SSIA beside its own while it trains.

    ``loss = loss of the model + sum over blocks of lambda_s L_s + lambda_c L_c``; of a spatial or
    channel signal ``L = sum_k v_k (F_k - G_k)^2 / (1e-8 + sum_k v_k)``, where G is the normalised
    mean of a high map over its channels or positions, F what a small network predicts of it from
    a lower map, and v_k is 1 where ``0.5 < |G_k| < 10``.

    The result *is* the wrapped model: an instance of its class (and of ``SSIA``), with its
    attributes and its names in a checkpoint. Where it is asked for its losses (``mode='loss'`` or
    its ``loss()``, which a semi-supervised detector calls), the summaries of some maps are taken
    on their way and ``loss_ssia_{block}_spatial`` and ``loss_ssia_{block}_channel`` are
    added; every other mode is the wrapped model's own. The predictors are in its child ``ssia``,
    which its ``state_dict()`` leaves out: a checkpoint is that of the plain model. Put
    ``custom_hooks=[dict(type='mmattn.SSIAHook')]`` into the config, and they are saved beside it
    and a resumed training continues with them.

    Paper: Self-Supervised Implicit Attention: Guided Attention by The Model Itself, arXiv
    2206.07434; the loss is :class:`mmattn.auxiliary.SSIABlock`.

    Differs from the paper: maps of images of any size are resized to fixed grids (in detection,
    which the paper does not try). Where its text contradicts itself, ``lambda_s, lambda_c = 0.5,
    1.5``: the text of its table 1 gives these for the row with both signals, whose figures are
    also the "cascaded" ones of table 2 and ResNet-50's of table 5; the section on settings gives
    1, 3, which table 1 has for a signal alone.

    Padding does not count: a map's summaries are those of the image's part of it, where mmdet's
    preprocessor padded the images of a batch to one size.

    Args:
        model: config of the detector or classifier.
        taps: the maps, low to high: names of modules (as ``named_modules()`` gives them;
            ``'neck[1]'`` is the second map of one that gives several), or indices of the
            backbone's stages, counted as its ``out_indices`` counts them. In a transformer (Swin,
            PVT) a stage is taken before its closing LayerNorm, after which the mean over the
            channels is the same everywhere; a stage of HRNet is the branch that is new in it. A
            module that runs several times in one forward counts with its last run.
        scheme: which tap predicts which. ``'cascaded'``: each the next one; ``'final'``: each the
            last one; ``'identity'``: each but the last itself; or pairs ``(low, high)`` of taps.
            A signal has the size of the next tap (of the high one where pairs are given).
        sample: an image ``(channels, height, width)``; the sizes of its maps are the grids.
        loss_weight: weight of all losses of SSIA together (0.2 in the paper, whose eta is another
            thing: the lower one of ``thresholds``).
        lambdas: weights of the blocks, low to high; ``None``: 1, 2, 3, ... The paper's 1, 2, 3
            belong to the low maps of stages 0, 1 and 2: with taps that start at stage 1, as in a
            detector with stage 0 frozen, its weights are ``(2, 3)``.
        warmup: in so many training iterations first, the predictors learn from detached maps and
            the wrapped model learns from its own losses alone.
        data_preprocessor: of the wrapped model, where its own config has none (the runner passes
            a config's top-level entry here).
        wrapped: the wrapped model's type, instead of ``model``; its own options then stand
            beside those of SSIA. A config that inherits a detector's states only
            ``model=dict(type='mmattn.SSIA', wrapped='RetinaNet', taps=(1, 2, 3))``.
        options: options of every block, see :class:`mmattn.auxiliary.SSIABlock`: ``lambda_s``,
            ``lambda_c``, ``hidden``, ``normaliser``, ``thresholds``, ``norm_input``,
            ``resize_input``, ``norm``; with ``wrapped`` those of the wrapped model as well.

    Shape: as the wrapped model.

    Raises:
        TypeError: an unknown option, ``model``, ``wrapped`` or ``taps`` of another type, both or
            none of the first two.
        ValueError: a tap that is no stage or module or gives no ``(N, C, H, W)`` map, taps or a
            pair in the wrong order, an option out of range, a ``sample`` the model cannot take; in
            training, a low map that no gradient passes (a frozen stage, or the inside of a
            checkpointed block).
    """

    def __new__(
        cls,
        model: dict | None = None,
        *args,
        wrapped: str | type | None = None,
        data_preprocessor: dict | None = None,
        **options,
    ):
        if 'eta' in options:
            raise TypeError(
                'eta is the threshold on the signals in the paper, 0.5, here the first of '
                'thresholds=(0.5, 10); the weight of all losses is loss_weight, '
                f'got eta={options["eta"]}'
            )
        given = {} if data_preprocessor is None else dict(data_preprocessor=data_preprocessor)
        cfg = plain_config(dict(model=model, wrapped=wrapped, **options))
        net = ROOT_MODELS.build({**given, **cfg})
        return cls.in_front_of(net)  # Python calls __init__ on it: it is an SSIA now

    def __init__(
        self,
        model: dict | None = None,
        taps: Sequence[int | str] = (),
        scheme: str | Sequence[Sequence] = 'cascaded',
        sample: tuple[int, int, int] = (3, 224, 224),
        loss_weight: float = 0.2,
        lambdas: Sequence[float] | None = None,
        warmup: int = 0,
        data_preprocessor: dict | None = None,
        wrapped: str | type | None = None,
        **options,
    ) -> None:
        if not isinstance(taps, Sequence) or isinstance(taps, str):
            raise TypeError(f'taps must be a list of integers or strings, got {taps!r}')
        pairs = _pairs(list(taps), scheme)
        names = _taps.resolve(self, taps)
        sizes = _taps.trial(self, names, sample)
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
        block = {name: options[name] for name in _BLOCK_OPTIONS & options.keys()}
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

    def forward(
        self, inputs: object, data_samples: object = None, mode: str = 'tensor', **kwargs
    ) -> object:
        call = partial(super().forward, mode=mode, **kwargs)
        return (
            self._add_to(call, inputs, data_samples)
            if mode == 'loss'
            else call(inputs, data_samples)
        )

    def loss(self, inputs: object, data_samples: object = None, **kwargs) -> dict[str, Tensor]:
        """Return the wrapped model's losses and those of SSIA, for one that asks without
        ``forward``.
        """
        return self._add_to(partial(super().loss, **kwargs), inputs, data_samples)

    def _add_to(self, call: Callable, inputs: object, data_samples: object) -> dict[str, Tensor]:
        """Add the losses of SSIA to those of a call of the wrapped model."""
        if self.ssia.watching:  # loss() inside forward()
            return call(inputs, data_samples)
        self.ssia.watching = True
        try:
            with self._watch(inputs, data_samples) as pooled:
                losses = call(inputs, data_samples)
        finally:
            self.ssia.watching = False
        return {**losses, **self.ssia(pooled)}

    def _watch(self, inputs: object, data_samples: object):
        return _taps.watch(self, self.ssia.taps, _taps.image_sizes(inputs, data_samples))

    @torch.no_grad()
    def spatial_signals(self, inputs: Tensor, data_samples: Sequence | None = None) -> list[tuple]:
        """Return what every block with a spatial loss predicts, and what it is asked for.

        Args:
            inputs: a batch as the wrapped model's preprocessor gives it.
            data_samples: what goes with it, to keep its padding out as in training.

        Returns:
            Per block: its two taps, F_s and G_s.

        Shape: ``inputs`` (N, 3, H, W), F_s and G_s (N, 1, H', W').
        """
        with self._watch(inputs, data_samples) as pooled:
            getattr(self, 'extract_feat', self)(inputs)
        found = []
        for block, (low, high) in zip(self.ssia.blocks, self.ssia.pairs):
            predicted, signals = block.predict(pooled[low]), block.signals(pooled[high])
            if 'spatial' in predicted:
                shape = (-1, 1, *block.high_size)
                maps = (predicted['spatial'].reshape(shape), signals['spatial'].reshape(shape))
                found.append(((low, high), *maps))
        return found


def plain_config(cfg: dict) -> dict:
    """Return the wrapped model's own config, from that of a model with SSIA.

    Args:
        cfg: ``dict(type='mmattn.SSIA', ...)`` in either form, with ``model`` or with ``wrapped``.

    Raises:
        TypeError: It has both, none, one of another type, or options that are nobody's.
    """
    model, wrapped = cfg.get('model'), cfg.get('wrapped')
    rest = {key: value for key, value in cfg.items() if key not in _OWN | _BLOCK_OPTIONS}
    if (model is None) == (wrapped is None):
        both = 'none of them' if model is None else 'both'
        raise TypeError(f'SSIA needs model (a config) or wrapped (a type beside it), got {both}')
    if wrapped is not None:
        if isinstance(wrapped, dict):
            raise TypeError('wrapped must be the type of a model, got a dict: that is for model')
        return dict(type=wrapped, **rest)
    if not isinstance(model, dict):
        raise TypeError(f'model must be a config (dict), got {type(model).__name__}')
    rest.pop('data_preprocessor', None)
    for name in sorted(rest):
        hint = did_you_mean(name, _OWN | _BLOCK_OPTIONS)
        raise TypeError(
            f'SSIA beside model=dict(...) takes its own options only, got {name!r}'
            + (
                hint
                or '; a config that inherits a model has wrapped=TYPE instead, or _delete_=True'
            )
        )
    return model


class _Blocks(nn.Module):
    """All blocks of a model, and how far its training is."""

    def __init__(self, blocks: list, pairs: list, weights: list, warmup: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.pairs = pairs
        self.weights = weights
        self.warmup = warmup
        self.watching = False
        self.register_buffer('iteration', torch.zeros((), dtype=torch.long))

    def init_weights(self) -> None:
        """Give the predictors their start back after the wrapped model's rules ran over them."""
        for block in self.blocks:
            block.init_weights()

    @property
    def taps(self) -> set:
        return {name for pair in self.pairs for name in pair}

    def forward(self, pooled: dict[str, Pooled]) -> dict[str, Tensor]:
        """Return the losses by name, from the summaries by tap."""
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
    """Return the same values; a gradient passes only where ``started`` is true."""
    spatial, channel = (torch.where(started, x, x.detach()) for x in low[:2])
    return Pooled(spatial, channel, low.sizes)


def _leave_out(module: nn.Module, state: dict, prefix: str, metadata: dict) -> None:
    """State-dict hook: the predictors are no part of the model."""
    for key in [key for key in state if key.startswith(f'{prefix}ssia.')]:
        del state[key]


def _not_missing(module: nn.Module, keys: object) -> None:
    """Load hook: what a state dict never has is not missing from it."""
    own = tuple(f'ssia.{key}' for key in module.ssia.state_dict())
    keys.missing_keys[:] = [key for key in keys.missing_keys if not key.endswith(own)]


def _pairs(taps: list, scheme: object) -> list[tuple[int, int, int]]:
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
