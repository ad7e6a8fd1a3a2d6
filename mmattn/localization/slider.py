"""What the page needs to find the boxes again at every threshold: one small map an image.

A mask only shrinks as the threshold rises. So one whole number a pixel, at how many of the
slider's thresholds it is selected, holds the masks of all of them exactly, whatever the rule.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from torch import Tensor

from mmattn.localization.boxes import BoxRule, masks_from_maps

__all__ = ['pack_map', 'selection_counts', 'slider_thresholds']


def slider_thresholds(rule: BoxRule) -> list[float]:
    """List the thresholds of the slider: each hundredth, and the rule's own."""
    return sorted({i / 100 for i in range(100)} | {float(rule.threshold)})


def selection_counts(
    maps: Tensor, size: Sequence[int], rule: BoxRule, thresholds: Sequence[float]
) -> np.ndarray:
    """Count for each pixel the thresholds at which the rule selects it.

    Args:
        maps: Score maps ``(N, h, w)``.
        size: ``(H, W)`` of the network's input.
        rule: The rule; its own threshold plays no part.
        thresholds: At most 255, in rising order.

    Shape: returns ``(N, H, W)`` uint8; a pixel is selected at ``thresholds[k]`` where it is > k.
    """
    counts = np.zeros((len(maps), *size), np.uint8)
    for threshold in thresholds:
        counts += masks_from_maps(maps, size, replace(rule, threshold=threshold)).cpu().numpy()
    return counts


def pack_map(counts: np.ndarray) -> str:
    """Write one map ``(H, W)`` as text: differences along the rows, zlib, base64."""
    steps = np.diff(counts, axis=1, prepend=np.uint8(0))  # modulo 256
    return base64.b64encode(zlib.compress(steps.tobytes(), 9)).decode()
