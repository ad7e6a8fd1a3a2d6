"""Every threshold at once, compiled: components merged while the level falls (union-find).

Imported only where it is asked for, since numba is optional.
"""

from collections.abc import Sequence

import numpy as np

try:
    from numba import njit
except ImportError as error:
    raise ImportError("sweep_components='pixels' needs numba: pip install numba") from error

__all__ = ['component_ious']

DRY = 0  # the parent of a pixel that is not there yet: a corner of the padding, never wet


# Tables by the set of wet pixels around one: eight bits in circular order, corners first.
_WET = np.arange(256)[:, None] >> np.arange(8) & 1


def _joins(neighbours: list[int]) -> np.ndarray:
    """With whom to join a pixel, as bits: one of each run of neighbours that are connected."""
    joins = np.zeros(256, np.int64)
    for wet, inside in enumerate(_WET):
        for i, before in zip(neighbours, np.roll(neighbours, 1)):
            gap = [inside[j % 8] for j in range(before, i if i > before else i + 8)]
            joins[wet] |= (inside[i] and not all(gap)) << i
        if all(inside[i] for i in neighbours):  # all around: any of them
            joins[wet] |= 1 << neighbours[0]
    return joins.astype(np.uint8)


EIGHT, FOUR = _joins([0, 1, 2, 3, 4, 5, 6, 7]), _joins([1, 3, 5, 7])
# What a pixel adds to "components less holes" (Yokoi's connectivity number).
_DRY = 1 - np.concatenate([_WET, _WET[:, :2]], 1)
EULER = 1 - sum(_DRY[:, i] * (1 - _DRY[:, i + 1] * _DRY[:, (i + 2) % 8]) for i in (1, 3, 5, 7))


def component_ious(
    levels: np.ndarray, boxes_xyxy: Sequence | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Best IoU of the components' boxes with the true boxes at each of the 256 levels.

    Pixels join in falling order of value, each to its 8 neighbours that are there, and every
    component keeps its box and its number of pixels: one pass over the map for all thresholds. A
    second one, from below and with 4 neighbours, finds the holes where there are any.

    Differs from the paper: the largest component is the one with most pixels, where the authors'
    code compares the areas inside contours.

    Args:
        levels: Map in whole numbers ``(H, W)`` uint8; level ``l`` selects pixels ``> l``.
        boxes_xyxy: True boxes ``(G, 4)`` in input pixels.

    Returns:
        ``(v1, v2)``, each ``(256,)``: for the largest component (the first in reading order on a
        tie), and for the best of all and of the borders of holes.
    """
    truth = np.trunc(np.asarray(boxes_xyxy, np.float64).reshape(-1, 4))
    levels = np.ascontiguousarray(levels, np.uint8)
    v1, v2, top = _flood(levels, truth, False, 0)
    if top >= 0:  # value <= l is 255 - value > 254 - l
        _, holes, _ = _flood(255 - levels, truth, True, 254 - top)
        np.maximum(v2[: top + 1], holes[254 - top : 255][::-1], out=v2[: top + 1])
    return v1, v2


_compiled = njit(nogil=True, cache=True)


@_compiled
def _find(parents: np.ndarray, pixel: int) -> int:
    while parents[pixel] != pixel:
        parents[pixel] = parents[parents[pixel]]
        pixel = parents[pixel]
    return pixel


@_compiled
def _join(parents: np.ndarray, counts: np.ndarray, boxes: np.ndarray, a: int, b: int) -> int:
    """Make one component of two roots; returns its root, the one of the larger."""
    if a == b:
        return a
    if counts[a] < counts[b]:
        a, b = b, a
    parents[b] = a
    counts[a] += counts[b]
    boxes[a, 0] = min(boxes[a, 0], boxes[b, 0])
    boxes[a, 1] = min(boxes[a, 1], boxes[b, 1])
    boxes[a, 2] = max(boxes[a, 2], boxes[b, 2])
    boxes[a, 3] = max(boxes[a, 3], boxes[b, 3])
    boxes[a, 4] = min(boxes[a, 4], boxes[b, 4])
    return a


@_compiled
def _best_iou(x0: int, y0: int, x1: int, y1: int, truth: np.ndarray) -> float:
    """Largest IoU with a true box; the edges belong to the boxes."""
    best = 0.0
    for box in truth:
        width = min(x1, box[2]) - max(x0, box[0]) + 1
        height = min(y1, box[3]) - max(y0, box[1]) + 1
        if width > 0 and height > 0:
            inter = width * height
            area = (box[2] - box[0] + 1) * (box[3] - box[1] + 1)
            best = max(best, inter / ((x1 - x0 + 1) * (y1 - y0 + 1) + area - inter))
    return best


@_compiled
def _falling_order(levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the pixels, highest value first, in reading order where equal."""
    starts = np.zeros(257, np.int64)
    for value in levels.flat:
        starts[256 - value] += 1
    starts = np.cumsum(starts)
    rows, columns = np.empty(levels.size, np.int32), np.empty(levels.size, np.int32)
    for y in range(levels.shape[0]):
        for x in range(levels.shape[1]):
            place = starts[255 - levels[y, x]]
            rows[place], columns[place] = y, x
            starts[255 - levels[y, x]] = place + 1
    return rows, columns


@_compiled
def _flood(
    levels: np.ndarray, truth: np.ndarray, holes: bool, last: int
) -> tuple[np.ndarray, np.ndarray, int]:
    """IoU of the largest and of the best component at each level down to ``last``.

    With ``holes`` pixels have 4 neighbours, components at the image's border do not count, and
    the box is that of the pixels around the component.

    Returns:
        ``(v1, v2, top)``: and the highest level at which a component has a hole, or -1.
    """
    height, width = levels.shape
    row = width + 2  # of a map with a dry pixel around it: every pixel has all neighbours
    around = np.array([-row - 1, -row, -row + 1, 1, row + 1, row, row - 1, -1])
    rows, columns = _falling_order(levels)
    parents = np.full((height + 2) * row, DRY, np.uint32)  # unsigned: no check for negatives
    counts = np.empty(parents.size, np.int32)
    boxes = np.empty((parents.size, 5), np.int32)  # x0, y0, x1, y1, first pixel
    roots = np.empty(rows.size, np.uint32)
    joins = FOUR if holes else EIGHT
    margin = 1 if holes else 0
    alive, done, euler, top = 0, 0, 0, -1
    # nothing selected: a box of one pixel
    v1 = np.full(256, 0.0 if holes else _best_iou(0, 0, 0, 0, truth))
    v2 = v1.copy()
    for level in range(254, last - 1, -1):
        first = done
        while done < rows.size and levels[rows[done], columns[done]] > level:
            y, x = rows[done], columns[done]
            pixel = np.uint32((y + 1) * row + x + 1)
            done += 1
            wet = 0
            for i in range(8):
                wet |= (parents[np.uint32(pixel + around[i])] != DRY) << i
            euler += EULER[wet]
            wet = joins[wet]
            if not wet:  # a peak
                roots[alive] = parents[pixel] = pixel
                counts[pixel] = 1
                boxes[pixel, 0] = boxes[pixel, 2] = x
                boxes[pixel, 1] = boxes[pixel, 3] = y
                boxes[pixel, 4] = pixel
                alive += 1
                continue
            start = 0
            while not wet >> start & 1:
                start += 1
            root = _find(parents, np.uint32(pixel + around[start]))
            parents[pixel] = root
            counts[root] += 1
            boxes[root, 0] = min(boxes[root, 0], x)
            boxes[root, 1] = min(boxes[root, 1], y)
            boxes[root, 2] = max(boxes[root, 2], x)
            boxes[root, 3] = max(boxes[root, 3], y)
            boxes[root, 4] = min(boxes[root, 4], pixel)
            for i in range(start + 1, 8):
                if wet >> i & 1:
                    other = _find(parents, np.uint32(pixel + around[i]))
                    root = _join(parents, counts, boxes, root, other)
        if done == first:
            v1[level], v2[level] = v1[level + 1], v2[level + 1]
            continue
        kept, largest, best = 0, -1, 0.0
        for index in range(alive):
            root = roots[index]
            if parents[root] != root:
                continue
            roots[kept] = root
            kept += 1
            x0, y0, x1, y1, place = boxes[root]
            if holes and (x0 == 0 or y0 == 0 or x1 == width - 1 or y1 == height - 1):
                continue
            # as the authors' code: right and bottom one past the last pixel, but not outside
            right, bottom = min(x1 + margin + 1, width - 1), min(y1 + margin + 1, height - 1)
            iou = _best_iou(x0 - margin, y0 - margin, right, bottom, truth)
            best = max(best, iou)
            if (
                largest < 0
                or counts[root] > counts[largest]
                or (counts[root] == counts[largest] and place < boxes[largest, 4])
            ):
                largest, v1[level] = root, iou
        alive, v2[level] = kept, best
        if kept > euler and top < 0:
            top = level
    return v1, v2, top
