"""The per-image log: one line of JSON an image, safe to cut off at any moment."""

from __future__ import annotations

import heapq
import json
import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from mmattn.localization.localizer import Settings
from mmattn.localization.metrics import LocalizationMetrics
from mmattn.localization.structures import ImageResult

__all__ = [
    'GALLERY',
    'LOG_NAME',
    'ResultLog',
    'RunInfo',
    'RunPlan',
    'collect',
    'done_keys',
    'log_files',
    'merge_logs',
    'read_log',
]

LOG_NAME = 'per_image.jsonl'
GALLERY = 24  # hits to show, and misses


@dataclass(frozen=True)
class RunInfo:
    """Where the figures of a run come from.

    Args:
        annotations: The annotations, as the user named them.
        weights: The weights, as the user named them.
        fused: Whether norms were folded into convolutions.
        command: The command line, for the report.
        compare: Folder of a run to show beside this one, or None.
        target_layers: Names of the layers the maps are of; known when the run ends.
        closed_form: Whether the maps needed no backward pass; known when the run ends.
        hits: Images of the gallery whose box hits; known when the run ends.
        misses: Images of the gallery whose box misses; known when the run ends.
        failures: Key and reason of each image that could not be evaluated; known when the run
            ends.
    """

    annotations: str = ''
    weights: str | None = None
    fused: bool = False
    command: str = ''
    compare: str | None = None
    target_layers: tuple[str, ...] = ()
    closed_form: bool = False
    hits: tuple[ImageResult, ...] = ()
    misses: tuple[ImageResult, ...] = ()
    failures: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class RunPlan:
    """How and where the boxes of many images are made.

    Args:
        settings: What decides maps, boxes and metrics.
        work_dir: Folder for the results.
        device: Where the network runs.
        workers: Processes that decode images; 0 decodes in this one.
        resume: Continue what ``work_dir`` has.
        info: What the user named: annotations, weights, command. A resumed run must name the same.
    """

    settings: Settings
    work_dir: str | Path
    device: torch.device | str = 'cpu'
    workers: int = 2
    resume: bool = False
    info: RunInfo = RunInfo()


class ResultLog:
    """Appends results; whole lines only, flushed to disk batch by batch.

    Opening repairs what a killed run left: a cut last line is removed, so that the next line
    starts on its own.

    Args:
        path: The ``.jsonl`` file, made if missing.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        _cut_to_whole_lines(self.path)
        self._file = self.path.open('a', encoding='utf-8')

    def append(self, results: Sequence[ImageResult]) -> None:
        """Write results with one write call and wait until the disk has them."""
        self._file.write(''.join(json.dumps(r.to_dict()) + '\n' for r in results))
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> ResultLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _cut_to_whole_lines(path: Path) -> None:
    if not path.exists() or path.stat().st_size == 0:
        return
    with path.open('rb+') as f:
        f.seek(0, os.SEEK_END)
        end = f.tell()
        step = 1 << 16
        while end > 0:  # from the back: the file may be large
            start = max(0, end - step)
            f.seek(start)
            place = f.read(end - start).rfind(b'\n')
            if place >= 0:
                f.truncate(start + place + 1)
                return
            end = start
        f.truncate(0)


def read_log(path: str | Path) -> Iterator[tuple[int, ImageResult]]:
    """Yield ``(offset, ImageResult)``; a cut last line is left out.

    Raises:
        ValueError: A line that is not the last one cannot be read.
    """
    path = Path(path)
    offset = 0
    with path.open('rb') as f:
        for number, line in enumerate(f, 1):
            if not line.endswith(b'\n'):
                return
            try:
                yield offset, ImageResult.from_dict(json.loads(line))
            except (ValueError, TypeError) as error:
                raise ValueError(f'{path} line {number} cannot be read: {error}') from error
            offset += len(line)


def log_files(work_dir: str | Path) -> list[Path]:
    """Every log in a work dir: the merged one first, then one for each process."""
    work_dir = Path(work_dir)
    merged = [work_dir / LOG_NAME] if (work_dir / LOG_NAME).exists() else []
    return merged + sorted(work_dir.glob('per_image.rank*.jsonl'))


def done_keys(work_dir: str | Path) -> set[str]:
    """Keys of all images that a work dir already has results for."""
    return {result.key for file in log_files(work_dir) for _, result in read_log(file)}


def merge_logs(work_dir: str | Path, keys: Sequence[str]) -> Iterator[ImageResult]:
    """Join all logs of a work dir into one, in the given order, each image once.

    Only offsets are kept in memory. The merged file replaces the parts in one step.

    Args:
        work_dir: Folder with the logs.
        keys: All keys in the order of the data set.

    Yields:
        Each :class:`ImageResult` in that order.

    Raises:
        ValueError: An image has no result.
    """
    work_dir = Path(work_dir)
    files = log_files(work_dir)
    places = {}
    for number, file in enumerate(files):
        for offset, result in read_log(file):
            places.setdefault(result.key, (number, offset))
    missing = [key for key in keys if key not in places]
    if missing:
        raise ValueError(f'{len(missing)} images have no result, first {missing[0]}')
    target = work_dir / (LOG_NAME + '.tmp')
    handles = [file.open('rb') for file in files]
    try:
        with target.open('wb') as out:
            for key in keys:
                number, offset = places[key]
                handles[number].seek(offset)
                line = handles[number].readline()
                out.write(line)
                yield ImageResult.from_dict(json.loads(line))
            out.flush()
            os.fsync(out.fileno())
    finally:
        for handle in handles:
            handle.close()
    os.replace(target, work_dir / LOG_NAME)
    for file in files:
        if file.name != LOG_NAME:
            file.unlink()


def collect(
    work_dir: str | Path,
    keys: Sequence[str],
    settings: Settings,
    info: RunInfo,
    gallery: int = GALLERY,
) -> tuple[LocalizationMetrics, RunInfo]:
    """Join the logs, count everything, and pick the images of the gallery.

    The gallery is drawn by the hash of the image's name: neither the best nor the worst.

    Args:
        work_dir: Folder with the logs.
        keys: All keys in the order of the data set.
        settings: What the results were made with.
        info: What is known of the run so far.
        gallery: Hits to pick, and misses.

    Returns:
        The metrics, and ``info`` with its ``hits``, ``misses`` and ``failures``.
    """
    metrics = LocalizationMetrics(settings.iou_thr, settings.sweep_step or 0.5)
    shown: dict[bool, list[Any]] = {True: [], False: []}
    failures = []
    for result in merge_logs(work_dir, keys):
        metrics.update(result)
        if result.error is not None:
            failures.append((result.key, result.error))
            continue
        heap = shown[result.iou >= settings.iou_thr]
        item = (-zlib.crc32(result.key.encode()), result.key, result)
        (heapq.heappush if len(heap) < gallery else heapq.heappushpop)(heap, item)
    hits, misses = (tuple(item[2] for item in sorted(shown[hit])) for hit in (True, False))
    return metrics, replace(info, hits=hits, misses=misses, failures=tuple(failures))
