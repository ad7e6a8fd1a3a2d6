"""The run: every picture through the classifier, its boxes and metrics, resumable and sharded.

The order of work never changes a number: batches are fixed by the data set alone, each result is
one line of ``per_image.jsonl``, and ``summary.json`` is computed from those lines at the end.
"""

from __future__ import annotations

import heapq
import json
import os
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from mmengine.dist import barrier, get_dist_info
from mmengine.logging import print_log
from torch.utils.data import DataLoader

from mmattn.localization.boxes import (
    BoxRule,
    boxes_from_mask,
    get_rule,
    masks_from_maps,
    stretch,
    upsample,
)
from mmattn.localization.cam import ScoreMaps
from mmattn.localization.metrics import LocalizationMetrics
from mmattn.localization.pictures import PictureDataset, collate
from mmattn.localization.results import LOG_NAME, ResultLog, done_keys, log_files, merge_logs
from mmattn.localization.structures import PictureResult
from mmattn.localization.sweep import COMPONENTS, iou_matrix, sweep

_SWEEP_RULE = get_rule('clova-v1')


@dataclass(frozen=True)
class Settings:
    """Everything that decides the numbers, apart from the classifier and the data.

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
        sweep_components: ``'contours'``, as the authors' code; ``'pixels'``: components of pixels,
            several times faster, hits all but equal (needs numba).
        batch_size: Pictures a forward pass.
    """

    cam: str = 'gradcam'
    rule: BoxRule = field(default_factory=lambda: get_rule('gradcam-0.15'))
    target: str | None = None
    steps: str = 'last'
    reshape: str | None = None
    maps: str = 'true'
    iou_thr: float = 0.5
    sweep_step: float = 0.001
    sweep_components: str = 'contours'
    batch_size: int = 32

    def __post_init__(self):
        if self.steps not in ('last', 'mean'):
            raise ValueError(
                f"steps must be 'last' or 'mean' in an evaluation, got {self.steps!r}"
            )
        if self.maps not in ('true', 'top5'):
            raise ValueError(f"maps must be 'true' or 'top5', got {self.maps!r}")
        if self.batch_size < 1:
            raise ValueError(f'batch size must be at least 1, got {self.batch_size}')
        if self.sweep_step and not 0 < self.sweep_step <= 0.5:
            raise ValueError(f'sweep step must be 0 or in (0, 0.5], got {self.sweep_step}')
        if self.sweep_components not in COMPONENTS:
            raise ValueError(
                f'sweep components must be one of {COMPONENTS}, got {self.sweep_components!r}'
            )
        if self.sweep_components == 'pixels':
            from . import flooding  # noqa: F401  says so where numba is missing


class Localizer:
    """Batches of pictures in, :class:`PictureResult` out. Use it as a context manager.

    Args:
        classifier: A :class:`~mmattn.localization.classifiers.Classifier`.
        settings: A :class:`Settings`.
        device: Where the network runs.
        threads: Threads for the host half of the box step.
    """

    def __init__(self, classifier, settings, device='cpu', threads=None):
        self.classifier, self.settings = classifier, settings
        self.device = torch.device(device)
        classifier.model.to(self.device)
        self.maps = ScoreMaps(
            classifier.model,
            settings.cam,
            settings.target,
            settings.steps,
            settings.reshape,
            classifier.forward,
        )
        self._pool = ThreadPoolExecutor(threads or min(8, os.cpu_count() or 1))

    def __enter__(self):
        self.maps.__enter__()
        return self

    def __exit__(self, *error):
        self._pool.shutdown()
        return self.maps.__exit__(*error)

    def prepare(self, batch):
        """Fixes the target layer with one picture ``(1, H, W, 3)`` uint8."""
        self.maps.prepare(self.to_input(batch))

    def to_input(self, batch):
        """Bytes ``(N, H, W, 3)`` -> the network's input on its device."""
        batch = batch.to(self.device, non_blocking=True)
        return self.classifier.preprocess.normalize(batch)

    def submit(self, batch, pictures, geometries):
        """Starts a batch: the network runs now, the host half of the boxes in threads.

        Returns:
            A function that waits and returns the results in order.
        """
        labels = torch.tensor([p.label for p in pictures], device=self.device)
        out = self.maps(self.to_input(batch), lambda logits: self._wanted(labels, logits))
        top5 = _best_classes(out.logits).tolist()
        scores = out.logits.float().softmax(1).amax(1).tolist()
        size = geometries[0].input_size
        rule = self.settings.rule
        masks = masks_from_maps(out.maps.flatten(0, 1), size, rule)
        masks = masks.unflatten(0, out.maps.shape[:2]).cpu().numpy()  # (N, K, H, W)
        levels = [None] * len(pictures)
        if self.settings.sweep_step:
            levels = stretch(upsample(out.maps[:, 0], size, _SWEEP_RULE)).to(torch.uint8)
            levels = levels.cpu().numpy()
        jobs = [
            self._pool.submit(self._finish, *job)
            for job in zip(pictures, geometries, masks, levels, top5, scores)
        ]
        return lambda: [job.result() for job in jobs]

    def _wanted(self, labels, logits):
        if self.settings.maps == 'true':
            return labels[:, None]
        return torch.cat([labels[:, None], _best_classes(logits)], 1)

    def _finish(self, picture, geometry, masks, levels, top5, score):
        """Boxes, IoU and sweep of one picture, on the host."""
        rule = self.settings.rule
        boxes = [boxes_from_mask(mask, rule) for mask in masks]
        ious = [best_iou(b, picture.boxes_xyxy, geometry, rule) for b in boxes]
        placed = [_rounded(geometry.to_picture(b)) for b in boxes]
        truth = geometry.to_input(picture.boxes_xyxy)
        swept = {}
        if levels is not None:
            swept = sweep(levels, truth, components=self.settings.sweep_components)
        every = self.settings.maps == 'top5'
        return PictureResult(
            key=picture.key,
            label=picture.label,
            top5=tuple(top5),
            score=score,
            iou=ious[0],
            boxes_xyxy=placed[0],
            class_ious=tuple(ious[1:]) if every else None,
            class_boxes=tuple(placed[1:]) if every else None,
            sweep=swept,
            picture_size=geometry.picture_size,
        )


def best_iou(boxes_xyxy, truth_xyxy, geometry, rule):
    """Best IoU of predicted boxes with true boxes, in the rule's convention.

    ``continuous`` compares in picture pixels; ``pixel-inclusive`` in input pixels with true
    boxes cut to whole pixels, as the code that uses this convention does.

    Args:
        boxes_xyxy: Predicted boxes ``(B, 4)`` in input pixels.
        truth_xyxy: True boxes ``(G, 4)`` in picture pixels.
    """
    if rule.iou == 'continuous':
        return float(iou_matrix(geometry.to_picture(boxes_xyxy), truth_xyxy).max())
    truth = np.trunc(geometry.to_input(truth_xyxy))
    return float(iou_matrix(boxes_xyxy, truth, 'pixel-inclusive').max())


def _best_classes(logits):
    return logits.topk(min(5, logits.shape[1]), 1).indices


def _rounded(boxes):
    return tuple(tuple(round(v, 2) for v in box) for box in boxes.tolist())


def fix_batches(count, batch_size):
    """The batches of a data set: always the same, whoever runs them."""
    return [list(range(i, min(i + batch_size, count))) for i in range(0, count, batch_size)]


def run(classifier, pictures, settings, work_dir, device='cpu', workers=2, resume=False, about=()):
    """Evaluates all pictures and writes ``per_image.jsonl``; safe to kill and to start again.

    Args:
        classifier: A :class:`~mmattn.localization.classifiers.Classifier`.
        pictures: Annotated pictures.
        settings: A :class:`Settings`.
        work_dir: Folder for the results.
        device: Where the network runs.
        workers: Processes that decode pictures; 0 decodes in this one.
        resume: Keep the results that the folder already has.
        about: Further facts a resumed run must share, as a mapping.

    Returns:
        ``(metrics, facts)`` in the first process, None in others. ``facts`` holds the target
        layer, the gallery's keys and the pictures that failed.

    Raises:
        ValueError: No pictures; results of other settings, or results without ``resume``, are in
            the folder; a label outside the classifier's classes.
    """
    if not pictures:
        raise ValueError('there is no picture to evaluate')
    rank, world = get_dist_info()
    work_dir = Path(work_dir)
    identity = _identity(classifier, pictures, settings, about)
    if rank == 0:
        _open_work_dir(work_dir, identity, resume)
    barrier()
    done = done_keys(work_dir) if resume else set()
    batches = fix_batches(len(pictures), settings.batch_size)[rank::world]
    todo = [b for b in batches if any(pictures[i].key not in done for i in b)]
    own_log = work_dir / (LOG_NAME if world == 1 else f'per_image.rank{rank}.jsonl')
    with Localizer(classifier, settings, device) as localizer:
        names = _prepare(localizer, pictures)
        if rank == 0:
            way = 'closed form, no backward pass' if localizer.maps.analytic else 'gradient'
            print_log(f'{settings.cam} on layer {", ".join(names)} ({way})', 'current')
        with ResultLog(own_log) as log:
            _work(localizer, pictures, todo, log, workers)
    barrier()
    if rank != 0:
        return None
    metrics, facts = collect(work_dir, [p.key for p in pictures], settings)
    facts.update(target_layer=names, closed_form=localizer.maps.analytic)
    return metrics, facts


def _prepare(localizer, pictures):
    """Shows the localizer the first readable picture; returns the names of the target layers."""
    dataset = PictureDataset(pictures, localizer.classifier.preprocess)
    for index in range(len(dataset)):
        _, array, _, error = dataset[index]
        if error is None:
            localizer.prepare(torch.from_numpy(array.copy())[None])
            return list(localizer.maps.names)
    raise ValueError(f'none of the {len(dataset)} pictures can be decoded')


def _work(localizer, pictures, todo, log, workers):
    loader = DataLoader(
        PictureDataset(pictures, localizer.classifier.preprocess),
        batch_sampler=todo,
        num_workers=min(workers, len(todo)),
        collate_fn=collate,
        pin_memory=localizer.device.type == 'cuda',
    )
    settings = localizer.settings
    progress = Progress(sum(len(b) for b in todo), settings)
    waiting = None

    def write(failures, finish):
        failed = [PictureResult(pictures[i].key, pictures[i].label, error=e) for i, e in failures]
        results = (finish() if finish else []) + failed
        log.append(results)  # a picture that is there already: its first line counts
        progress.update(results)

    for indices, batch, geometries, failures in loader:
        finish = None
        if indices:
            finish = localizer.submit(batch, [pictures[i] for i in indices], geometries)
        if waiting is not None:  # its boxes were found while the network was busy
            write(*waiting)
        waiting = (failures, finish)
    if waiting is not None:
        write(*waiting)


class Progress:
    """A line of progress every few seconds: speed, time left, running metrics."""

    def __init__(self, total, settings, every=10.0):
        self.total, self.every = total, every
        self.metrics = LocalizationMetrics(settings.iou_thr, 0.5, replicates=0)
        self.start = self.last = time.time()
        self.count = 0

    def update(self, results):
        """Counts results and logs a line when it is time or everything is done."""
        self.count += len(results)
        for result in results:
            self.metrics.update(result)
        now = time.time()
        if now - self.last < self.every and self.count < self.total:
            return
        self.last = now
        speed = self.count / max(now - self.start, 1e-9)
        left = (self.total - self.count) / max(speed, 1e-9)
        values = self.metrics.totals()
        shown = '  '.join(f'{k} {values[k]:.3f}' for k in ('top1_loc', 'top5_loc', 'gt_known'))
        failed = f'  {self.metrics.failed} unreadable' if self.metrics.failed else ''
        print_log(
            f'[{self.count}/{self.total}] {speed:.1f} pictures/s, {_clock(left)} left  '
            f'{shown}{failed}',
            'current',
        )


def _clock(seconds):
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f'{hours}:{minutes:02d}:{seconds:02d}'


def _identity(classifier, pictures, settings, about):
    """What a resumed run must have in common with the first one."""
    listed = ''.join(f'{p.key}|{p.label}|{p.boxes_xyxy}' for p in pictures)
    return json.loads(
        json.dumps(
            dict(
                model=classifier.name,
                preprocess=asdict(classifier.preprocess),
                settings=asdict(settings),
                pictures=len(pictures),
                pictures_crc=zlib.crc32(listed.encode()),
                **dict(about),
            )
        )
    )


def _open_work_dir(work_dir, identity, resume):
    try:
        work_dir.mkdir(parents=True, exist_ok=True)
        probe = work_dir / '.write_test'
        probe.write_text('')
        probe.unlink()
    except OSError as error:
        raise ValueError(f'work dir {work_dir} cannot be written: {error}') from error
    file = work_dir / 'run.json'
    if log_files(work_dir) and not resume:
        raise ValueError(
            f'work dir {work_dir} already holds results: continue them with --resume, or use '
            'another --work-dir'
        )
    if resume and file.exists():
        before = json.loads(file.read_text())
        other = '; '.join(_differences(before, identity))
        if other:
            raise ValueError(
                f'cannot resume in {work_dir}, its results were made otherwise ({other}): use '
                'another --work-dir'
            )
    file.write_text(json.dumps(identity, indent=1) + '\n')


def _differences(before, now, name=''):
    """What a run was started with and is resumed with, where they differ."""
    for key, value in now.items():
        if isinstance(value, dict) and isinstance(before.get(key), dict):
            yield from _differences(before[key], value, f'{name}{key}.')
        elif before.get(key) != value:
            yield f'{name}{key} was {before.get(key)!r}, is {value!r}'


def collect(work_dir, keys, settings, gallery=12):
    """Joins the logs, counts everything, and picks the pictures of the gallery.

    The gallery is drawn by the hash of the picture's name: neither the best nor the worst.

    Returns:
        ``(metrics, facts)``.
    """
    metrics = LocalizationMetrics(settings.iou_thr, settings.sweep_step or 0.5)
    shown = {True: [], False: []}
    failures = []
    for result in merge_logs(work_dir, keys):
        metrics.update(result)
        if result.error is not None:
            failures.append((result.key, result.error))
            continue
        heap = shown[result.iou >= settings.iou_thr]
        item = (-zlib.crc32(result.key.encode()), result.key, result)
        (heapq.heappush if len(heap) < gallery else heapq.heappushpop)(heap, item)
    drawn = {hit: [item[2] for item in sorted(heap)] for hit, heap in shown.items()}
    return metrics, dict(hits=drawn[True], misses=drawn[False], failures=failures)
