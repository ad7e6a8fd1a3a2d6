"""Every threshold at once, compiled: components merged while the level falls (union-find)."""

import numpy as np

try:
    from numba import njit
except ImportError:  # numba is optional
    njit = None

__all__ = ['component_ious']

DRY = -1


def component_ious(levels, truth):
    """Best IoU of the components' boxes with the true boxes at each of the 256 levels.

    Pixels join in falling order of value, each to its 8 neighbours that are there, and every
    component keeps its box and its number of pixels: one pass over the map for all thresholds.

    Differs from the paper: the largest component has most pixels, where the authors' code
    compares the areas inside contours, and a hole's border has no box of its own. The boxes at a
    level are the same but for such ties and holes.

    Args:
        levels: Map in whole numbers ``(H, W)`` uint8; level ``l`` selects pixels ``> l``.
        truth: True boxes ``(G, 4)``, whole input pixels, edges inside.

    Returns:
        ``(v1, v2)``, each ``(256,)``: for the largest component (the first in reading order on a
        tie), and for the best of all.

    Raises:
        ImportError: numba is not installed.
    """
    if njit is None:
        raise ImportError("components='pixels' needs numba: pip install numba")
    truth = np.ascontiguousarray(truth, np.float64).reshape(-1, 4)
    return _flood(np.ascontiguousarray(levels, np.uint8), truth)


def _compiled(function):
    return njit(function, nogil=True, cache=True) if njit else function


@_compiled
def _find(parents, pixel):
    while parents[pixel] != pixel:
        parents[pixel] = parents[parents[pixel]]
        pixel = parents[pixel]
    return pixel


@_compiled
def _join(parents, counts, boxes, a, b):
    """The component of both; the larger one's root is kept."""
    a, b = _find(parents, a), _find(parents, b)
    if a == b:
        return
    if counts[a] < counts[b]:
        a, b = b, a
    parents[b] = a
    counts[a] += counts[b]
    for edge in range(2):
        boxes[a, edge] = min(boxes[a, edge], boxes[b, edge])
        boxes[a, 2 + edge] = max(boxes[a, 2 + edge], boxes[b, 2 + edge])
    boxes[a, 4] = min(boxes[a, 4], boxes[b, 4])


@_compiled
def _best_iou(x0, y0, x1, y1, truth):
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
def _flood(levels, truth):
    height, width = levels.shape
    values = levels.ravel()
    order = np.argsort(values, kind='mergesort')[::-1]  # highest first
    parents = np.full(values.size, DRY, np.int32)
    counts = np.ones(values.size, np.int32)
    boxes = np.empty((values.size, 5), np.int32)  # x0, y0, x1, y1, first pixel
    roots = np.empty(values.size, np.int32)
    alive, done = 0, 0
    v1 = np.full(256, _best_iou(0, 0, 0, 0, truth))  # nothing selected: a box of one pixel
    v2 = v1.copy()
    for level in range(254, -1, -1):
        first = done
        while done < order.size and values[order[done]] > level:
            pixel = order[done]
            y, x = pixel // width, pixel % width
            parents[pixel] = pixel
            boxes[pixel] = (x, y, x, y, pixel)
            for row in range(max(y - 1, 0), min(y + 2, height)):
                for column in range(max(x - 1, 0), min(x + 2, width)):
                    if parents[row * width + column] != DRY:
                        _join(parents, counts, boxes, pixel, row * width + column)
            roots[alive] = pixel
            alive += 1
            done += 1
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
            x0, y0, x1, y1, start = boxes[root]
            # as the authors' code: one behind the last pixel, but not outside
            iou = _best_iou(x0, y0, min(x1 + 1, width - 1), min(y1 + 1, height - 1), truth)
            best = max(best, iou)
            if (
                largest < 0
                or counts[root] > counts[largest]
                or (counts[root] == counts[largest] and start < boxes[largest, 4])
            ):
                largest, v1[level] = root, iou
        alive, v2[level] = kept, best
    return v1, v2
