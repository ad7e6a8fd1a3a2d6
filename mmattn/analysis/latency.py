"""How long networks take beside each other, interleaved in one run."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from mmattn.analysis.loading import model_of
from mmattn.analysis.timing import interleave, peak_bytes, ratio
from mmattn.core.config import read_config

__all__ = ['Latency', 'build_model', 'measure_latency']


@dataclass(frozen=True)
class Latency:
    """Of one network.

    Args:
        ms: median milliseconds of a batch.
        ratio: median over the rounds of its time over the first network's.
        memory: its peak memory over the first network's.
    """

    ms: float
    ratio: float
    memory: float


def build_model(path: str | Path) -> nn.Module:
    """Return a config's model in eval mode with random weights, which cost what trained ones do.

    Args:
        path: a config of mmdet or mmpretrain.
    """
    torch.manual_seed(0)
    return model_of(read_config(path))


def features(model: nn.Module, images: Tensor) -> object:
    """Run backbone and neck of a detector, all of any other network."""
    whole = not hasattr(model, 'extract_feat') or getattr(model, 'head', None) is not None
    with torch.inference_mode():
        return model(images) if whole else model.extract_feat(images)


def measure_latency(
    models: Mapping[str, nn.Module], images: Tensor, repeats: int
) -> dict[str, Latency]:
    """Time the networks on one batch, interleaved.

    The heads of a detector are left out: what they cost follows the boxes, which random weights
    draw.

    Args:
        models: by name, in eval mode; ratios are to the first.
        images: ``(N, 3, H, W)``, where the models are.
        repeats: rounds that count.

    Returns:
        By name.
    """
    variants = {name: partial(features, model, images) for name, model in models.items()}
    times = interleave(variants, repeats)
    peak = {name: peak_bytes(variant, images.is_cuda) for name, variant in variants.items()}
    first = next(iter(variants))
    return {
        name: Latency(
            1e3 * statistics.median(times[name]),
            ratio(times, name, first),
            peak[name] / max(peak[first], 1),
        )
        for name in variants
    }
