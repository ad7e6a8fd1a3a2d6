"""The run: every image through the classifier, one line of results each, resumable and sharded.

The order of work never changes a value: batches are fixed by the data set alone, each result is
one line of ``per_image.jsonl``, and ``summary.json`` is computed from those lines at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from mmengine.dist import barrier, get_dist_info
from mmengine.logging import print_log
from torch.utils.data import DataLoader

from mmattn.data.sizes import first_size
from mmattn.localization.classifiers import Classifier
from mmattn.localization.images import ImageDataset, collate
from mmattn.localization.localizer import Localizer
from mmattn.localization.metrics import LocalizationMetrics
from mmattn.localization.progress import ResultProgress
from mmattn.localization.results import LOG_NAME, ResultLog, RunInfo, RunPlan, collect, done_keys
from mmattn.localization.structures import AnnotatedImage, ImageResult
from mmattn.localization.work_dir import open_work_dir, run_identity

__all__ = ['find_boxes', 'fix_batches', 'prepare', 'settle', 'write_results']


def fix_batches(count: int, batch_size: int) -> list[list[int]]:
    """Cut a data set into batches: always the same, whoever runs them."""
    return [list(range(i, min(i + batch_size, count))) for i in range(0, count, batch_size)]


def settle(classifier: Classifier, images: Sequence[AnnotatedImage]) -> Classifier:
    """Fix the input size of a classifier whose images set it.

    Raises:
        ValueError: They become inputs of several sizes.
    """
    preprocess = classifier.preprocess
    if preprocess.input_size is not None and not preprocess.steps:
        return classifier
    sizes = (image.size or first_size([image.path]) for image in images)
    settled = preprocess.settled(size for size in sizes if size is not None)
    return replace(classifier, preprocess=settled)


def write_results(
    classifier: Classifier,
    images: Sequence[AnnotatedImage],
    plan: RunPlan,
) -> tuple[LocalizationMetrics, RunInfo] | None:
    """Evaluate all images and write ``per_image.jsonl``; safe to kill and to start again.

    Args:
        classifier: The network with its preprocessing.
        images: Annotated images.
        plan: How and where.

    Returns:
        The metrics, and ``plan.info`` with what is known when the run ends, in the first process;
        None in the others.

    Raises:
        ValueError: No images; results of other settings, or results without ``resume``, are in
            the folder; a label outside the classifier's classes.
    """
    if not images:
        raise ValueError('there is no image to evaluate')
    classifier = settle(classifier, images)
    settings, info, work_dir = plan.settings, plan.info, Path(plan.work_dir)
    rank, world = get_dist_info()
    if rank == 0:
        print_log(f'input: {classifier.preprocess}', 'current')
        named = dict(annotations=info.annotations, weights=info.weights, fused=info.fused)
        identity = run_identity(classifier, images, settings, named)
        open_work_dir(work_dir, identity, plan.resume)
    barrier()
    done = done_keys(work_dir) if plan.resume else set()
    batches = fix_batches(len(images), settings.batch_size)[rank::world]
    todo = [b for b in batches if any(images[i].key not in done for i in b)]
    own_log = work_dir / (LOG_NAME if world == 1 else f'per_image.rank{rank}.jsonl')
    with Localizer(classifier, settings, plan.device) as localizer:
        prepare(localizer, images)
        names = tuple(localizer.maps.names)
        closed_form = localizer.maps.analytic
        if rank == 0:
            way = 'closed form, no backward pass' if closed_form else 'gradient'
            print_log(f'{settings.cam} on layer {", ".join(names)} ({way})', 'current')
        judged = any(image.boxes_xyxy for image in images[:1])
        total = sum(len(batch) for batch in todo)
        with ResultProgress(total, settings, judged) as progress, ResultLog(own_log) as log:
            for results in find_boxes(localizer, images, todo, plan.workers):
                log.append(results)  # an image that is there already: its first line counts
                progress.add(results)
    barrier()
    if rank != 0:
        return None
    info = replace(info, target_layers=names, closed_form=closed_form)
    return collect(work_dir, [p.key for p in images], settings, info)


def prepare(localizer: Localizer, images: Sequence[AnnotatedImage]) -> None:
    """Let the localizer choose its target layers on the first readable image.

    Raises:
        ValueError: No image can be decoded.
    """
    dataset = ImageDataset(images, localizer.classifier.preprocess)
    for index in range(len(dataset)):
        _, array, _, error = dataset[index]
        if error is None:
            localizer.prepare(torch.from_numpy(array.copy())[None])
            return
    raise ValueError(f'none of the {len(dataset)} images can be decoded')


def find_boxes(
    localizer: Localizer,
    images: Sequence[AnnotatedImage],
    batches: list[list[int]],
    workers: int = 0,
) -> Iterator[list[ImageResult]]:
    """Localize batch by batch; the boxes of one are found while the network has the next.

    Args:
        localizer: An open one.
        images: The images; one without a label gets the boxes of the classifier's best class.
        batches: Places in ``images``, as :func:`fix_batches` gives them.
        workers: Processes that decode images; 0 decodes in this one.

    Yields:
        The results of each batch in its order; an image that cannot be decoded has an ``error``.
    """
    loader = DataLoader(
        ImageDataset(images, localizer.classifier.preprocess),
        batch_sampler=batches,
        num_workers=min(workers, len(batches)),
        collate_fn=collate,
        pin_memory=localizer.device.type == 'cuda',
    )
    waiting: Callable[[], list[ImageResult]] | None = None
    for batch, (indices, pixels, geometries, failures) in zip(batches, loader):
        finish = None
        if indices:
            finish = localizer.submit(pixels, [images[i] for i in indices], geometries)
        if waiting is not None:
            yield waiting()
        waiting = partial(_in_order, batch, images, indices, failures, finish)
    if waiting is not None:
        yield waiting()


def _in_order(
    batch: list[int],
    images: Sequence[AnnotatedImage],
    indices: list[int],
    failures: list[tuple[int, str]],
    finish: Callable[[], list[ImageResult]] | None,
) -> list[ImageResult]:
    found = dict(zip(indices, finish())) if finish else {}
    for index, error in failures:
        found[index] = ImageResult(images[index].key, images[index].label, error=error)
    return [found[index] for index in batch]
