"""The loss of self-supervised implicit attention: a low map predicts what a high map looks at."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmattn.core.arguments import check_arguments
from mmattn.layers._gate import check_batch, check_positive

__all__ = ['Pooled', 'SSIABlock', 'pool']

NORMALISERS = ('std', 'var')
NORMS = dict(BN=nn.BatchNorm1d, LN=nn.LayerNorm, SyncBN=nn.SyncBatchNorm)
EPS = 1e-8  # eq. 7 and 8; also keeps a constant map from dividing by its spread of 0


class Pooled(NamedTuple):
    """The two summaries of a map, at least float32.

    Args:
        spatial: mean over the channels, ``(N, 1, H, W)``.
        channel: mean over the positions of the image, ``(N, C)``.
        sizes: ``(h, w)`` of every image on the map, from its upper left corner; the rest is
            padding and does not count. ``None``: the whole map is image.
    """

    spatial: Tensor
    channel: Tensor
    sizes: list[tuple[int, int]] | None = None


def pool(x: Tensor, sizes: list[tuple[int, int]] | None = None) -> Pooled:
    """Summarise a map; half precision is added up in float32.

    Args:
        x: the map.
        sizes: ``(h, w)`` of every image on it, see :class:`Pooled`.

    Shape: ``(N, C, H, W) -> (N, 1, H, W), (N, C)``.
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    spatial = x.mean(1, keepdim=True, dtype=dtype)
    if sizes is None or all(size == tuple(x.shape[2:]) for size in sizes):
        return Pooled(spatial, x.mean((2, 3), dtype=dtype))
    means = [m[:, :h, :w].mean((1, 2), dtype=dtype) for m, (h, w) in zip(x, sizes)]
    return Pooled(spatial, torch.stack(means), sizes)


@check_arguments
class SSIABlock(nn.Module):
    """Loss between what a low map predicts and what a high map of the same image shows.

    The high map ``Y`` gives two signals without parameters or gradient, ``G_s``, its mean over
    the channels, and ``G_c``, its mean over the positions, each shifted to mean 0 and divided by
    its spread, image by image. The low map ``X``, summarised alike, predicts them through a
    ``Linear - BN - ReLU - Linear`` each, ``F_s`` and ``F_c``. The loss of a signal is
    ``sum_k v_k (F_k - G_k)^2 / (1e-8 + sum_k v_k)`` with ``v_k = 1`` where
    ``low < |G_k| < high``, and the mean over the images.

    Paper: Self-Supervised Implicit Attention: Guided Attention by The Model Itself, arXiv
    2206.07434, equations 1 to 8.

    Differs from the paper: ``normaliser='std'``. The text divides by the variance; most entries
    then exceed the upper threshold of 10 and are masked, while with the standard deviation most
    lie between the thresholds, so that is the default. Ours, where the paper is silent: ReLU,
    the mean over the images, the spread's divisor (number of entries), and that a map is
    resized before it is normalised. There is no code of the authors.

    Everything runs in at least float32, also under autocast.

    Args:
        low_channels: C, of the low map.
        low_size: ``(H, W)``, what a low spatial summary is resized to, bilinearly.
        high_channels: C', of the high map.
        high_size: ``(H', W')`` what a spatial signal is resized to, likewise.
        lambda_s: weight of the spatial loss; with 0 it has no predictor. The paper: 0.5 beside a
            channel loss, 1 alone.
        lambda_c: weight of the channel loss; with 0 it has no predictor. The paper: 1.5 beside a
            spatial loss, 3 alone.
        hidden: width of the predictors' hidden layer.
        normaliser: ``'std'`` or ``'var'``, what divides a signal.
        thresholds: ``(low, high)``: entries of ``|G|`` between them count. The lower one, 0.5, is
            the paper's eta.
        norm_input: normalise the low summaries as the signals (the paper's option).
        resize_input: resize the low spatial summary to ``high_size`` (the paper's option).
        norm: of the hidden layer: ``'BN'`` (the paper), ``'SyncBN'``, ``'LN'`` (does not see the
            other images: for few images a process).

    Shape: ``(N, C, h, w), (k N, C', h', w') -> {'spatial': (), 'channel': ()}``, weighted. With
    k > 1 the high map holds the batch k times, one after another, as TridentNet's branches do.

    Raises:
        TypeError: a width is no integer.
        ValueError: an option out of range; in training, ``norm='BN'`` with one image; in the
            forward pass, a high map whose batch is no multiple of the low one's.
    """

    def __init__(
        self,
        low_channels: int,
        low_size: tuple[int, int],
        high_channels: int,
        high_size: tuple[int, int],
        *,
        lambda_s: float = 0.5,
        lambda_c: float = 1.5,
        hidden: int = 64,
        normaliser: str = 'std',
        thresholds: tuple[float, float] = (0.5, 10.0),
        norm_input: bool = False,
        resize_input: bool = False,
        norm: str = 'BN',
    ) -> None:
        super().__init__()
        sizes = dict(low_channels=low_channels, high_channels=high_channels, hidden=hidden)
        for name, value in sizes.items():
            check_positive(name, value)
        weights = dict(lambda_s=lambda_s, lambda_c=lambda_c)
        for name, value in weights.items():
            if not value >= 0:  # also NaN
                raise ValueError(f'{name} must be >= 0, got {value}')
        if lambda_s == lambda_c == 0:
            raise ValueError('lambda_s or lambda_c must be > 0, got 0 for both')
        if normaliser not in NORMALISERS:
            raise ValueError(f'normaliser must be one of {NORMALISERS}, got {normaliser!r}')
        if not 0 <= thresholds[0] < thresholds[1]:
            raise ValueError(f'thresholds must be 0 <= low < high, got {tuple(thresholds)}')
        if norm not in NORMS:
            raise ValueError(f'norm must be one of {tuple(NORMS)}, got {norm!r}')
        self.low_size = tuple(high_size if resize_input else low_size)
        self.high_size = tuple(high_size)
        self.weights = dict(spatial=lambda_s, channel=lambda_c)
        self.normaliser = normaliser
        self.thresholds = thresholds
        self.norm_input = norm_input
        self.predictors = nn.ModuleDict()
        if lambda_s:
            sizes = self.low_size[0] * self.low_size[1], high_size[0] * high_size[1]
            self.predictors['spatial'] = _predictor(*sizes, hidden, norm)
        if lambda_c:
            self.predictors['channel'] = _predictor(low_channels, high_channels, hidden, norm)

    def forward(self, low: Tensor, high: Tensor) -> dict[str, Tensor]:
        return self.losses(pool(low), pool(high))

    def losses(self, low: Pooled, high: Pooled) -> dict[str, Tensor]:
        """Return the weighted losses from the maps' summaries, see :func:`pool`."""
        signals = self.signals(high)
        times, rest = divmod(len(high.channel), len(low.channel))
        if rest or not times:
            raise ValueError(
                f"the batch of the high map must be a multiple of the low map's "
                f'{len(low.channel)}, got {len(high.channel)}'
            )
        return {
            name: self.weights[name] * self._regression(predicted.repeat(times, 1), signals[name])
            for name, predicted in self.predict(low).items()
        }

    def predict(self, low: Pooled) -> dict[str, Tensor]:
        """F_s ``(N, H' W')`` and F_c ``(N, C')``, by the names in use."""
        vectors = dict(
            spatial=_resize(low.spatial, self.low_size, low.sizes).flatten(1),  # (N, H W)
            channel=low.channel,
        )
        predicted = {}
        with torch.autocast(low.channel.device.type, enabled=False):
            for name, predictor in self.predictors.items():
                refused = "SSIA's predictor cannot train on one image with norm='BN'"
                check_batch(predictor[1], len(low.channel), refused)
                x = self._normalise(vectors[name]) if self.norm_input else vectors[name]
                predicted[name] = predictor(x)
        return predicted

    def signals(self, high: Pooled) -> dict[str, Tensor]:
        """G_s ``(N, H' W')`` and G_c ``(N, C')``, without gradient."""
        spatial = _resize(high.spatial.detach(), self.high_size, high.sizes).flatten(1)
        return dict(
            spatial=self._normalise(spatial), channel=self._normalise(high.channel.detach())
        )

    def _normalise(self, x: Tensor) -> Tensor:
        """Mean 0 and spread 1 for every image: ``(N, K) -> (N, K)``."""
        centred = x - x.mean(1, keepdim=True)
        spread = centred.square().mean(1, keepdim=True)
        if self.normaliser == 'std':
            spread = spread.sqrt()
        return centred / (spread + EPS)

    def _regression(self, predicted: Tensor, signal: Tensor) -> Tensor:
        low, high = self.thresholds
        mask = ((signal.abs() > low) & (signal.abs() < high)).to(signal.dtype)
        error = (mask * (predicted - signal).square()).sum(1)  # (N,)
        return (error / (EPS + mask.sum(1))).mean()  # eq. 7, 8

    def init_weights(self) -> None:
        """Give every parameter torch's initial value, whatever rule the host has for its own."""
        for module in self.modules():
            if hasattr(module, 'reset_parameters'):
                module.reset_parameters()


def _predictor(inputs: int, outputs: int, hidden: int, norm: str) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, hidden), NORMS[norm](hidden), nn.ReLU(), nn.Linear(hidden, outputs)
    )


def _resize(x: Tensor, size: tuple[int, int], images: list | None = None) -> Tensor:
    """``(N, 1, h, w) -> (N, 1, H, W)``, bilinear; a map that fits is left alone.

    With the sizes of the images on the map, each image is resized alone, without the padding.
    """
    if images is not None:
        cropped = (m[None, :, :h, :w] for m, (h, w) in zip(x, images))
        return torch.cat([_resize(m, size) for m in cropped])
    if x.shape[2:] == size:
        return x
    return F.interpolate(x, size=size, mode='bilinear', align_corners=False)
