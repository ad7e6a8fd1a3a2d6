"""The small immutable records that pass between the steps of an evaluation.

An image comes in as :class:`AnnotatedImage`, its way through the network is a
:class:`Geometry`, and what is known about it at the end is an :class:`ImageResult`. Boxes are
plain ``(x0, y0, x1, y1)`` in pixels; ``x1`` and ``y1`` lie outside the box (half-open) unless a
record says otherwise. Sizes are always ``(height, width)``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class AnnotatedImage:
    """One image to localize, with its annotations.

    Args:
        key: Unique name inside the data set, as the annotations spell it.
        path: File to read.
        label: Class index, 0-based; None stands for the classifier's best class.
        boxes_xyxy: Ground-truth boxes in pixels of the image; empty where none are known.
        size: ``(height, width)`` in the frame of the boxes, or None where it cannot be read.
        frame: What the boxes belong to: ``'upright'``, the image turned by its EXIF
            orientation, or ``'stored'``, the pixels as they lie in the file.
    """

    key: str
    path: Path
    label: int | None = None
    boxes_xyxy: tuple = ()
    size: tuple | None = None
    frame: str = 'upright'


@dataclass(frozen=True)
class Problem:
    """One mismatch between annotations and images: what kind, where, and the detail."""

    kind: str
    key: str
    detail: str


@dataclass(frozen=True)
class AnnotationSet:
    """Annotated images, the class names in label order, and every mismatch that was found.

    Args:
        images: Usable images only.
        classes: Names in label order; may be empty where the annotations hold only indices.
        problems: Mismatches; an image that has one is not in ``images``, unless the problem
            is one that clipping fixes.
    """

    images: tuple
    classes: tuple = ()
    problems: tuple = ()

    def problem_counts(self) -> dict[str, int]:
        """Count them, ``{kind: count}``, in order of first appearance."""
        counts = {}
        for problem in self.problems:
            counts[problem.kind] = counts.get(problem.kind, 0) + 1
        return counts

    def problem_list(self) -> str:
        """Write the counts as part of a sentence: ``3 x missing file, 1 x empty box``."""
        return ', '.join(f'{count} x {kind}' for kind, count in self.problem_counts().items())


@dataclass(frozen=True)
class Geometry:
    """How input pixels relate to image pixels: ``input = image * scale - offset``.

    Args:
        scale_xy: Resize factors along x and y.
        offset_xy: Pixels cut away at the left and the top after the resize.
        input_size: ``(height, width)`` of what the network sees.
        image_size: ``(height, width)`` of the image.
    """

    scale_xy: tuple
    offset_xy: tuple
    input_size: tuple
    image_size: tuple

    @classmethod
    def resized(cls, image_size: Sequence[int], input_size: Sequence[int]) -> Geometry:
        """Resize to ``input_size`` without a crop (width and height on their own)."""
        (h, w), (in_h, in_w) = image_size, input_size
        return cls((in_w / w, in_h / h), (0.0, 0.0), tuple(input_size), tuple(image_size))

    def to_image(self, boxes_xyxy: Sequence | np.ndarray) -> np.ndarray:
        """Map boxes ``(B, 4)`` from input pixels to image pixels, clipped to the image."""
        boxes = np.asarray(boxes_xyxy, np.float64).reshape(-1, 4)
        boxes = (boxes + np.tile(self.offset_xy, 2)) / np.tile(self.scale_xy, 2)
        return clip_boxes(boxes, self.image_size)

    def to_input(self, boxes_xyxy: Sequence | np.ndarray) -> np.ndarray:
        """Map boxes ``(B, 4)`` from image pixels to input pixels, clipped to the input."""
        boxes = np.asarray(boxes_xyxy, np.float64).reshape(-1, 4)
        boxes = boxes * np.tile(self.scale_xy, 2) - np.tile(self.offset_xy, 2)
        return clip_boxes(boxes, self.input_size)


@dataclass(frozen=True)
class ImageResult:
    """Everything the metrics and the report need to know about one image.

    Args:
        key: The image's key.
        label: True class, or where none was known the best one; None for an image that could
            not be read and had no label.
        top5: The best classes, best first (fewer where the classifier has fewer than 5).
        iou: Best IoU between the boxes of ``label`` and any true box; 0 where there is none.
        boxes_xyxy: Predicted boxes of ``label``, in image pixels.
        class_ious: The same IoU for the boxes of each class of ``top5``, or None where only the
            true class's map was made (the exact shortcut).
        class_boxes: The boxes that ``class_ious`` are of, one list per class, or None.
        sweep: Hits of the threshold sweep, ``{'v1': [hex, hex, hex], 'v2': [...]}``, one string
            of 256 bits per IoU level; empty where no sweep was made.
        image_size: ``(height, width)``, or None where the image could not be read.
        error: Why the image could not be evaluated, or None.
        score: Softmax probability of the best class.
        label_score: Softmax probability of ``label``.
    """

    key: str
    label: int | None
    top5: tuple = ()
    iou: float = 0.0
    boxes_xyxy: tuple = ()
    class_ious: tuple | None = None
    class_boxes: tuple | None = None
    sweep: dict = field(default_factory=dict)
    image_size: tuple | None = None
    error: str | None = None
    score: float = 0.0
    label_score: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON-ready values; floats survive a round trip exactly."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ImageResult:
        """Build the record from :meth:`to_dict`'s values (lists become tuples)."""
        names = {f.name for f in fields(cls)}
        unknown = set(values) - names
        if unknown:
            raise ValueError(f'a result holds unknown fields {sorted(unknown)}')
        return cls(**{k: _frozen(v) for k, v in values.items()})


def _frozen(value: Any) -> Any:
    return tuple(_frozen(v) for v in value) if isinstance(value, (list, tuple)) else value


def clip_boxes(boxes_xyxy: Sequence | np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Clip boxes ``(B, 4)`` to an image of ``size`` ``(height, width)``."""
    h, w = size
    return np.clip(np.asarray(boxes_xyxy, np.float64).reshape(-1, 4), 0, [w, h, w, h])
