"""Batches of images in, boxes and their IoU out."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from mmattn.core.arguments import check_arguments
from mmattn.localization.boxes import (
    BoxRule,
    boxes_from_mask,
    get_rule,
    masks_from_maps,
    stretch,
    upsample,
)
from mmattn.localization.cam import ScoreMaps
from mmattn.localization.classifiers import Classifier
from mmattn.localization.structures import AnnotatedImage, Geometry, ImageResult
from mmattn.localization.sweep import iou_matrix, sweep

__all__ = ['Localizer', 'Settings', 'best_iou']

_SWEEP_RULE = get_rule('clova-v1')


@check_arguments
@dataclass(frozen=True)
class Settings:
    """Everything that decides the metrics, apart from the classifier and the data.

    Args:
        cam: Score map method.
        rule: How maps become boxes.
        target: Target layer, or None for the automatic choice.
        steps: ``'last'`` or ``'mean'``, for layers called several times.
        reshape: Layout of the target layer, or None to find it.
        maps: ``'true'``: only the true class's map, which is exact; ``'top5'``: one map and box
            for each of the five best classes as well.
        iou_thr: IoU from which a box is right.
        sweep_step: Distance of the MaxBoxAcc thresholds; 0 leaves the sweep out.
        batch_size: Images a forward pass.

    Raises:
        ValueError: A value outside what is listed.
        TypeError: A value of another type.
    """

    cam: str = 'gradcam'
    rule: BoxRule = field(default_factory=lambda: get_rule('gradcam-0.15'))
    target: str | None = None
    steps: str = 'last'
    reshape: str | None = None
    maps: str = 'true'
    iou_thr: float = 0.5
    sweep_step: float = 0.001
    batch_size: int = 32

    def __post_init__(self) -> None:
        if self.steps not in ('last', 'mean'):
            raise ValueError(
                f"steps must be 'last' or 'mean' in an evaluation, got {self.steps!r}"
            )
        if self.maps not in ('true', 'top5'):
            raise ValueError(f"maps must be 'true' or 'top5', got {self.maps!r}")
        if not 0 < self.iou_thr <= 1:
            raise ValueError(f'iou_thr must be in (0, 1], got {self.iou_thr}')
        if self.batch_size < 1:
            raise ValueError(f'batch size must be at least 1, got {self.batch_size}')
        if self.sweep_step and not 0 < self.sweep_step <= 0.5:
            raise ValueError(f'sweep step must be 0 or in (0, 0.5], got {self.sweep_step}')


class Localizer:
    """Batches of images in, :class:`ImageResult` out. Use it as a context manager.

    Args:
        classifier: A :class:`~mmattn.localization.classifiers.Classifier`.
        settings: A :class:`Settings`.
        device: Where the network runs.
        threads: Threads for the host half of the box step.
        steps: Overrides ``settings.steps``: ``'all'`` to draw every map, not to score it.
    """

    def __init__(
        self,
        classifier: Classifier,
        settings: Settings,
        device: torch.device | str = 'cpu',
        threads: int | None = None,
        steps: str | None = None,
    ) -> None:
        self.classifier, self.settings = classifier, settings
        self.device = torch.device(device)
        classifier.model.to(self.device)
        self.maps = ScoreMaps(
            classifier.model,
            settings.cam,
            settings.target,
            steps or settings.steps,
            settings.reshape,
            classifier.forward,
        )
        self._pool = ThreadPoolExecutor(threads or min(8, os.cpu_count() or 1))

    def __enter__(self) -> Localizer:
        self.maps.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown()
        self.maps.__exit__(*error)

    def prepare(self, batch: Tensor) -> None:
        """Fix the target layer with one image ``(1, H, W, 3)`` uint8."""
        self.maps.prepare(self.to_input(batch))

    def to_input(self, batch: Tensor) -> Tensor:
        """Bytes ``(N, H, W, 3)`` -> the network's input on its device."""
        batch = batch.to(self.device, non_blocking=True)
        return self.classifier.preprocess.normalize(batch)

    def submit(
        self, batch: Tensor, images: Sequence[AnnotatedImage], geometries: Sequence[Geometry]
    ) -> Callable[[], list[ImageResult]]:
        """Start a batch: the network runs now, the host half of the boxes in threads.

        Returns:
            A function that waits and returns the results in order.
        """
        known = [-1 if image.label is None else image.label for image in images]
        known = torch.tensor(known, device=self.device)
        out = self.maps(self.to_input(batch), lambda logits: self._wanted(known, logits))
        top5 = _best_classes(out.logits).tolist()
        chosen = out.classes[:, :1]
        scores = out.logits.float().softmax(1)
        scores = torch.cat([scores.gather(1, chosen), scores.amax(1, keepdim=True)], 1).tolist()
        size = geometries[0].input_size
        rule = self.settings.rule
        masks = masks_from_maps(out.maps.flatten(0, 1), size, rule)
        masks = masks.unflatten(0, out.maps.shape[:2]).cpu().numpy()  # (N, K, H, W)
        levels = [None] * len(images)
        if self.settings.sweep_step:
            levels = stretch(upsample(out.maps[:, 0], size, _SWEEP_RULE)).to(torch.uint8)
            levels = levels.cpu().numpy()
        jobs = [
            self._pool.submit(self._finish, *job)
            for job in zip(images, geometries, masks, levels, chosen[:, 0].tolist(), top5, scores)
        ]
        return lambda: [job.result() for job in jobs]

    def _wanted(self, known: Tensor, logits: Tensor) -> Tensor:
        """Classes to make maps of, ``(N, K)``; in front the label, or the best where it is -1."""
        labels = torch.where(known < 0, logits.argmax(1), known)
        if self.settings.maps == 'true':
            return labels[:, None]
        return torch.cat([labels[:, None], _best_classes(logits)], 1)

    def _finish(
        self,
        image: AnnotatedImage,
        geometry: Geometry,
        masks: np.ndarray,
        levels: np.ndarray | None,
        label: int,
        top5: list[int],
        scores: list[float],
    ) -> ImageResult:
        """Find boxes, IoU and sweep of one image, on the host."""
        rule = self.settings.rule
        boxes = [boxes_from_mask(mask, rule) for mask in masks]
        ious = [best_iou(b, image.boxes_xyxy, geometry, rule) for b in boxes]
        placed = [_rounded(geometry.to_image(b)) for b in boxes]
        swept = {}
        if levels is not None:
            truth = geometry.to_input(image.boxes_xyxy)
            swept = sweep(levels, truth)
        every = self.settings.maps == 'top5'
        return ImageResult(
            key=image.key,
            label=label,
            top5=tuple(top5),
            score=scores[1],
            label_score=scores[0],
            iou=ious[0],
            boxes_xyxy=placed[0],
            class_ious=tuple(ious[1:]) if every else None,
            class_boxes=tuple(placed[1:]) if every else None,
            sweep=swept,
            image_size=geometry.image_size,
        )


def best_iou(
    boxes_xyxy: np.ndarray, truth_xyxy: Sequence, geometry: Geometry, rule: BoxRule
) -> float:
    """Compute the best IoU of predicted boxes with true boxes, in the rule's convention.

    ``continuous`` compares in image pixels; ``pixel-inclusive`` in input pixels with true
    boxes cut to whole pixels, as the code that uses this convention does.

    Args:
        boxes_xyxy: Predicted boxes ``(B, 4)`` in input pixels.
        truth_xyxy: True boxes ``(G, 4)`` in image pixels; without any the IoU is 0.
    """
    if not len(truth_xyxy):
        return 0.0
    if rule.iou == 'continuous':
        return float(iou_matrix(geometry.to_image(boxes_xyxy), truth_xyxy).max())
    truth = np.trunc(geometry.to_input(truth_xyxy))
    return float(iou_matrix(boxes_xyxy, truth, 'pixel-inclusive').max())


def _best_classes(logits: Tensor) -> Tensor:
    return logits.topk(min(5, logits.shape[1]), 1).indices


def _rounded(boxes: np.ndarray) -> tuple:
    return tuple(tuple(round(v, 2) for v in box) for box in boxes.tolist())
