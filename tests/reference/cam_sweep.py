"""MaxBoxAcc hits at every threshold, in plain Python loops.

Written from the description of the protocol; shares no code with ``mmattn``. Components come
without OpenCV and without hole borders, so they serve maps without holes.
"""

import cv2
import numpy as np


def components(mask):
    """8-connected components of a list of lists of 0/1: each a list of (row, column)."""
    height, width = len(mask), len(mask[0])
    seen, found = set(), []
    for row in range(height):
        for column in range(width):
            if not mask[row][column] or (row, column) in seen:
                continue
            stack, part = [(row, column)], []
            seen.add((row, column))
            while stack:
                y, x = stack.pop()
                part.append((y, x))
                for ny in range(max(y - 1, 0), min(y + 2, height)):
                    for nx in range(max(x - 1, 0), min(x + 2, width)):
                        if mask[ny][nx] and (ny, nx) not in seen:
                            seen.add((ny, nx))
                            stack.append((ny, nx))
            found.append(part)
    return found


def largest_component_box(mask):
    """Half-open box of the component with most pixels, the first in reading order on a tie."""
    parts = components(mask)
    if not parts:
        return None
    part = max(parts, key=len)  # max keeps the first, and parts come in reading order
    rows, columns = [p[0] for p in part], [p[1] for p in part]
    return min(columns), min(rows), max(columns) + 1, max(rows) + 1


def iou(a, b, one=0):
    """IoU of two boxes; ``one=1`` counts the right and bottom pixel as inside."""
    width = min(a[2], b[2]) - max(a[0], b[0]) + one
    height = min(a[3], b[3]) - max(a[1], b[1]) + one
    inter = max(width, 0) * max(height, 0)
    area = sum((c[2] - c[0] + one) * (c[3] - c[1] + one) for c in (a, b))
    return inter / (area - inter) if area - inter > 0 else 0.0


def ious_at_every_threshold(levels, truths, thresholds):
    """Best IoU at every threshold, one mask a threshold, contours by OpenCV as the authors do.

    Args:
        levels: ``(H, W)`` uint8 array.
        truths: True boxes in whole pixels; the right and bottom pixel are inside.
        thresholds: Fractions of the maximum.

    Returns:
        Two arrays: of the contour with the largest area, and of the best contour.
    """
    height, width = levels.shape
    of_largest, of_best, known = [], [], {}
    for threshold in thresholds:
        level = int(threshold * levels.max())
        if level not in known:
            mask = (levels > level).astype('uint8')
            contours, _ = cv2.findContours(mask, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
            best, area, largest = 0.0, -1.0, 0.0
            for contour in contours or [None]:
                x, y, w, h = (0, 0, 0, 0) if contour is None else cv2.boundingRect(contour)
                box = (x, y, min(x + w, width - 1), min(y + h, height - 1))
                value = max(iou(box, tuple(map(int, truth)), 1) for truth in truths)
                best = max(best, value)
                size = 0.0 if contour is None else cv2.contourArea(contour)
                if size > area:  # the first of several that are equal
                    area, largest = size, value
            known[level] = largest, best
        of_largest.append(known[level][0])
        of_best.append(known[level][1])
    return np.array(of_largest), np.array(of_best)
