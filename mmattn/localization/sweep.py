"""Every threshold at once: the hits of MaxBoxAcc and MaxBoxAccV2.

Paper: Evaluating Weakly Supervised Object Localization Methods Right, CVPR 2020 (MaxBoxAcc), and
its journal version (MaxBoxAccV2). Details follow the authors' code: map stretched to 0..255 whole
numbers, strict ``>``, largest contour (V1) or every contour with hole borders (V2), right and
bottom edges at the last pixel, true boxes cut to whole input pixels, IoU with edges inside.

A thousand thresholds give at most 255 different masks, so each mask is looked at once, and none
above the level from which no box can hit any more; the result is the same.
"""

from collections.abc import Sequence

import cv2
import numpy as np

__all__ = [
    'IOU_THRS',
    'LEVELS',
    'iou_matrix',
    'level_ious',
    'pack',
    'sweep',
    'threshold_levels',
    'unpack',
]

LEVELS = 256
IOU_THRS = (0.3, 0.5, 0.7)


def iou_matrix(
    boxes_a: Sequence | np.ndarray,
    boxes_b: Sequence | np.ndarray,
    convention: str = 'continuous',
) -> np.ndarray:
    """Intersection over union of every pair.

    Args:
        boxes_a: ``(A, 4)`` as x0, y0, x1, y1.
        boxes_b: ``(B, 4)``.
        convention: ``'continuous'``: width is ``x1 - x0``. ``'pixel-inclusive'``: the right and
            bottom pixel are inside, width is ``x1 - x0 + 1``.

    Shape: returns ``(A, B)``; a pair of empty boxes has IoU 0.

    Raises:
        ValueError: Unknown convention.
    """
    if convention not in ('continuous', 'pixel-inclusive'):
        raise ValueError(
            f"convention must be 'continuous' or 'pixel-inclusive', got {convention!r}"
        )
    one = 1.0 if convention == 'pixel-inclusive' else 0.0
    a = np.asarray(boxes_a, np.float64).reshape(-1, 1, 4)
    b = np.asarray(boxes_b, np.float64).reshape(1, -1, 4)
    width = np.minimum(a[..., 2], b[..., 2]) - np.maximum(a[..., 0], b[..., 0]) + one
    height = np.minimum(a[..., 3], b[..., 3]) - np.maximum(a[..., 1], b[..., 1]) + one
    inter = width.clip(min=0) * height.clip(min=0)
    area_a = (a[..., 2] - a[..., 0] + one) * (a[..., 3] - a[..., 1] + one)
    area_b = (b[..., 2] - b[..., 0] + one) * (b[..., 3] - b[..., 1] + one)
    union = area_a + area_b - inter
    return np.divide(inter, union, out=np.zeros_like(inter), where=union > 0)


def level_ious(
    levels: np.ndarray, boxes_xyxy: Sequence | np.ndarray, floor: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Best IoU of the predicted boxes with the true boxes at each of the 256 levels.

    A box of a higher level lies inside one of a lower level. So once no box covers a share
    ``floor`` of a true box any more, no IoU of a higher level can reach ``floor``.

    Args:
        levels: Map in whole numbers ``(H, W)`` uint8; level ``l`` selects pixels ``> l``.
        boxes_xyxy: True boxes ``(G, 4)`` in input pixels.
        floor: IoU values below this may come out as 0, which saves time.

    Returns:
        ``(v1, v2)``, each ``(256,)``: for the largest contour, and for the best of all contours.
    """
    truth = np.trunc(np.asarray(boxes_xyxy, np.float64).reshape(-1, 4))
    present = np.flatnonzero(np.bincount(levels.ravel(), minlength=LEVELS))
    rects, owner, largest = [], [], []
    part, offset = levels, (0, 0)  # what lies outside stays below all that follows
    for level in present[:-1]:  # at the last one nothing is left
        mask = cv2.threshold(part, int(level), 255, cv2.THRESH_BINARY)[1]
        found = cv2.findContours(mask, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE, offset=offset)
        contours = found[-2]
        areas = [cv2.contourArea(c) for c in contours] if len(contours) > 1 else [0]
        largest.append(len(rects) + areas.index(max(areas)))
        rects += [cv2.boundingRect(c) for c in contours]
        owner += [len(largest) - 1] * len(contours)
        if len(largest) % 8 == 0:
            inside = np.array(rects[-len(contours) :])
            if floor and _cover(inside, truth) < floor:
                break
            offset = tuple(inside[:, :2].min(0).tolist())
            right, bottom = (inside[:, :2] + inside[:, 2:]).max(0)
            part = levels[offset[1] : bottom, offset[0] : right]
    h, w = levels.shape
    nothing = iou_matrix([[0, 0, 0, 0]], truth, 'pixel-inclusive').max(initial=0)
    v1 = np.full(len(present), nothing)
    v2 = np.full(len(present), nothing)
    if rects:
        boxes = np.asarray(rects, np.float64)
        boxes[:, 2:] = np.minimum(boxes[:, :2] + boxes[:, 2:], [w - 1, h - 1])
        ious = iou_matrix(boxes, truth, 'pixel-inclusive').max(1, initial=0)
        v1[:-1] = v2[:-1] = 0
        v1[: len(largest)] = ious[largest]
        np.maximum.at(v2, owner, ious)
    # the mask changes only at levels that occur: level l behaves like the last one present <= l
    index = np.searchsorted(present, np.arange(LEVELS), side='right') - 1
    below = index < 0  # only where the smallest value is above 0: everything is selected
    index = index.clip(min=0)
    v1, v2 = v1[index], v2[index]
    if below.any():
        whole = iou_matrix([[0, 0, w - 1, h - 1]], truth, 'pixel-inclusive').max(initial=0)
        v1[below] = v2[below] = whole
    return v1, v2


def _cover(rects: np.ndarray, truth: np.ndarray) -> float:
    """Largest share of a true box inside one rectangle ``x, y, width, height``."""
    low = np.maximum(rects[:, None, :2], truth[:, :2])
    high = np.minimum((rects[:, :2] + rects[:, 2:])[:, None], truth[:, 2:])
    area = (truth[:, 2:] - truth[:, :2] + 1).prod(-1)
    return ((high - low + 1).clip(min=0).prod(-1) / area).max(initial=0)


def sweep(
    levels: np.ndarray,
    boxes_xyxy: Sequence | np.ndarray,
    iou_thrs: Sequence[float] = IOU_THRS,
) -> dict[str, tuple[str, ...]]:
    """Hits at every level as text, ready for a line of JSON.

    Returns:
        ``{'v1': [hex, ...], 'v2': [hex, ...]}``: 256 bits per IoU threshold, level 0 first.
    """
    found = level_ious(levels, boxes_xyxy, floor=min(iou_thrs))
    return {
        name: tuple(pack(ious >= thr) for thr in iou_thrs)
        for name, ious in zip(('v1', 'v2'), found)
    }


def pack(hits: np.ndarray) -> str:
    """256 truth values -> 64 hexadecimal digits."""
    return np.packbits(hits).tobytes().hex()


def unpack(text: str) -> np.ndarray:
    """64 hexadecimal digits -> bool ``(256,)``."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8)).astype(bool)


def threshold_levels(step: float = 0.001) -> tuple[np.ndarray, np.ndarray]:
    """Thresholds ``0, step, ... < 1`` and the level each one means.

    Returns:
        ``(thresholds, levels)``.
    """
    if not 0 < step <= 0.5:
        raise ValueError(f'sweep step must be in (0, 0.5], got {step}')
    thresholds = np.arange(0, 1, step)
    return thresholds, (thresholds * 255).astype(int)
