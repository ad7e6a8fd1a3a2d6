"""Boxes of images from a classifier, in Python: ``mmattn.localize``.

The command line's engine without its folder of results: the same images, networks, settings and
annotations give the same boxes and metrics.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mmattn.core.devices import choose_device
from mmattn.core.names import did_you_mean
from mmattn.data.folders import find_images
from mmattn.data.sizes import first_size
from mmattn.localization.annotations import load_annotations
from mmattn.localization.api import center_baseline, check_label, check_labels
from mmattn.localization.boxes import get_rule
from mmattn.localization.classifiers import Classifier, as_classifier, count_classes
from mmattn.localization.localizer import Localizer, Settings
from mmattn.localization.metrics import LocalizationMetrics
from mmattn.localization.run import find_boxes, fix_batches, prepare, settle
from mmattn.localization.structures import AnnotatedImage, AnnotationSet, ImageResult

__all__ = ['Localization', 'LocalizedImage', 'localize', 'predict']


@dataclass(frozen=True)
class LocalizedImage:
    """What was found in one image.

    Args:
        path: Its file.
        boxes_xyxy: ``((x0, y0, x1, y1), ...)`` in pixels of the image, right and bottom edges
            outside the box.
        label: Class the boxes are of.
        score: Its softmax probability.
        size: ``(height, width)`` of the image.
        iou: Best IoU of the boxes with a true one; None without annotations.
        error: Why the image could not be read, or None. Then there is no box, no size and, without
            annotations, no label.
    """

    path: Path
    boxes_xyxy: tuple[tuple[float, ...], ...]
    label: int | None
    score: float
    size: tuple[int, int] | None
    iou: float | None = None
    error: str | None = None


@dataclass(frozen=True)
class Localization:
    """What :func:`localize` returns; a sequence of its images.

    Args:
        images: One entry for each image, in the order asked for.
        classes: Class names in label order, where the classifier or the annotations have them.
        metrics: With annotations, the figures of ``summary.json``: ``gt_known``, ``top1_loc`` and
            so on, ``interval_95``, ``baseline``; else None.
    """

    images: tuple[LocalizedImage, ...]
    classes: tuple[str, ...] = ()
    metrics: dict[str, Any] | None = None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> LocalizedImage:
        return self.images[index]


def localize(
    model: nn.Module | Classifier | str,
    images: str | os.PathLike | Iterable[str | os.PathLike],
    annotations: str | os.PathLike | None = None,
    *,
    weights: str | os.PathLike | None = None,
    label: int | None = None,
    synsets: str | os.PathLike | None = None,
    allow_missing: bool = False,
    device: torch.device | str | None = None,
    workers: int = 0,
    **settings: Any,
) -> Localization:
    """Localize objects with a classifier that was never shown a box.

    Args:
        model: A network that gives ``(N, classes)``, a
            :class:`~mmattn.localization.classifiers.Classifier` (a network with its
            preprocessing), or what ``tools/localize.py`` takes: ``'torchvision:resnet50'``,
            ``'mmpretrain:CONFIG'``, ``'timm:NAME'``, ``'python:module:function'``. A bare network
            gets ImageNet's preprocessing at 224 x 224.
        images: A folder, a file, a glob or a list of these; with annotations the folder they
            belong to.
        annotations: True boxes in any format of :mod:`mmattn.localization.annotations`, to score
            the boxes found.
        weights: Checkpoint file or weight name, where ``model`` is a text.
        label: Class to find the boxes of. None: the true class where there are annotations, else
            the best class of each image.
        synsets: Text file with the classes in label order, for annotations that need it.
        allow_missing: Leave out images that do not match their annotations instead of refusing.
        device: Where the network runs. None: where it is; a network named by a text goes to cuda
            where there is one.
        workers: Processes that decode images; 0 decodes in this one.
        **settings: Fields of :class:`~mmattn.localization.localizer.Settings`: ``cam``, ``rule``
            (also by name), ``target``, ``batch_size`` and so on.

    Returns:
        A :class:`Localization`.

    Raises:
        ValueError: A model, image, annotation, label or setting that is not there or does not
            fit, or no image can be decoded.
        TypeError: An argument of another type.
    """
    chosen = _make_settings(settings)
    _check_options(annotations, synsets, weights, workers)
    paths = find_images(images) if annotations is None else []
    if annotations is not None:
        _check_annotated(images, label)
    classifier = as_classifier(model, None if weights is None else os.fspath(weights))
    if device is None and not isinstance(model, str):
        value = next(classifier.model.parameters(), None)
        device = 'cpu' if value is None else value.device
    device = choose_device(device)
    classifier.model.to(device)
    known = find_images(images) if classifier.preprocess.input_size is None else ()
    classes = count_classes(classifier, device, first_size(known))
    if annotations is None:
        asked = label_images(paths, label, classes)
        chosen = replace(chosen, sweep_step=0)  # there is nothing to hit
        results = list(predict(classifier, asked, chosen, device, workers))
        return Localization(_pair(asked, results), classifier.classes)
    names = classifier.classes
    truth = load_annotations(annotations, images, None, synsets, 'test', classes, names)
    if truth.problems and not allow_missing:
        first = truth.problems[0]
        raise ValueError(
            f'{annotations} and {images} do not match ({truth.problem_list()}; first {first.key}: '
            f'{first.detail}); correct them, or allow_missing=True to leave these images out'
        )
    check_labels(truth, classes)
    results = list(predict(classifier, truth.images, chosen, device, workers))
    metrics = _score(truth, results, chosen)
    return Localization(_pair(truth.images, results, True), truth.classes or names, metrics)


def _check_options(annotations: object, synsets: object, weights: object, workers: object) -> None:
    for name, path in dict(annotations=annotations, synsets=synsets, weights=weights).items():
        if path is not None and not isinstance(path, (str, os.PathLike)):
            raise TypeError(f'{name} must be a text, a path or None, got {path!r}')
    if synsets is not None and annotations is None:
        raise ValueError(f'synsets are for annotations, got {str(synsets)!r} alone')
    if not isinstance(workers, int) or isinstance(workers, bool):
        raise TypeError(f'workers must be an integer, got {workers!r}')
    if workers < 0:
        raise ValueError(f'workers must be 0 or more, got {workers}')


def _check_annotated(images: object, label: int | None) -> None:
    if label is not None:
        raise ValueError(f'label must be None where there are annotations, got {label}')
    if not isinstance(images, (str, os.PathLike)):
        raise TypeError(
            'images must be the folder of the annotations where there are some, '
            f'got {type(images).__name__}'
        )


def _score(
    truth: AnnotationSet, results: Sequence[ImageResult], settings: Settings
) -> dict[str, Any]:
    metrics = LocalizationMetrics(settings.iou_thr, settings.sweep_step or 0.5)
    for result in results:
        metrics.update(result)
    baseline = center_baseline(truth.images, settings.iou_thr)
    return dict(metrics.summary(), baseline=baseline, problems=truth.problem_counts())


def label_images(paths: Iterable[Path], label: int | None, classes: int) -> list[AnnotatedImage]:
    """Make images without annotations ready for :func:`predict`.

    Args:
        paths: Their files.
        label: Class to find the boxes of, or None for the best class of each.
        classes: Number of classes of the classifier.

    Raises:
        ValueError: No such class.
        TypeError: The label is no integer.
    """
    check_label(label, classes)
    return [AnnotatedImage(path.as_posix(), path, label) for path in paths]


def predict(
    classifier: Classifier,
    images: Sequence[AnnotatedImage],
    settings: Settings,
    device: torch.device | str = 'cpu',
    workers: int = 0,
) -> Iterator[ImageResult]:
    """Yield the result of each image in order, as soon as its batch is done; keeps none.

    Args:
        classifier: The network with its preprocessing.
        images: What to localize; an image without a label gets the boxes of its best class.
        settings: What decides maps and boxes.
        device: Where the network runs.
        workers: Processes that decode images.

    Raises:
        ValueError: There is no image, or none can be decoded.
    """
    if not images:
        raise ValueError('there is no image to localize')
    with Localizer(settle(classifier, images), settings, device) as localizer:
        prepare(localizer, images)
        for results in find_boxes(
            localizer, images, fix_batches(len(images), settings.batch_size), workers
        ):
            yield from results


def _make_settings(settings: dict[str, Any]) -> Settings:
    fields = Settings.__dataclass_fields__
    for name in settings:
        if name not in fields:
            near = did_you_mean(name, fields) or f'; settings are {", ".join(fields)}'
            raise TypeError(f'localize has no argument {name!r}{near}')
    if 'rule' in settings:
        settings = dict(settings, rule=get_rule(settings['rule']))
    return Settings(**settings)


def _pair(
    images: Sequence[AnnotatedImage], results: Sequence[ImageResult], annotated: bool = False
) -> tuple[LocalizedImage, ...]:
    return tuple(
        LocalizedImage(
            image.path,
            result.boxes_xyxy,
            result.label,
            result.label_score,
            result.image_size,
            result.iou if annotated and result.error is None else None,
            result.error,
        )
        for image, result in zip(images, results)
    )
