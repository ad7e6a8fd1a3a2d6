"""Check annotations and images against each other and name every mismatch."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from mmattn.data.entries import Entry, Source
from mmattn.data.folders import ImageIndex
from mmattn.data.sizes import ImageSize, choose_frame, measure, show_size
from mmattn.localization.structures import AnnotatedImage, AnnotationSet, Problem

__all__ = ['match']

_SLACK = 1.0  # pixels: benchmarks count the last pixel as inside or as outside


def match(
    source: Source,
    images: Path,
    labels: dict[Any, int],
    classes: tuple[str, ...] = (),
) -> AnnotationSet:
    """Turn a source's entries into images to evaluate.

    An image with boxes of several classes becomes one entry a class, ``key (class)``, with that
    class's boxes.

    Args:
        source: What a reader returned.
        images: Folder of images.
        labels: The label of each class that entries name.
        classes: Names of the classes in label order; may be empty.

    Returns:
        The images, and every mismatch.

    Raises:
        ValueError: The folder has no image.
    """
    index = ImageIndex(images)
    problems = [Problem('unreadable annotation', key, text) for key, text in source.faults]
    usable, seen, used = [], set(), set()
    found = [index.find(entry.key) for entry in source.entries]
    for entry, files, size in zip(source.entries, found, _measure_all(found)):
        used.update(files)
        if entry.key in seen:
            problems.append(Problem('duplicate id', entry.key, 'annotated twice; first one kept'))
            continue
        seen.add(entry.key)
        own, faults = _check(entry, files, size, index, labels, classes, source.frame)
        problems += faults
        usable += own
    if source.complete:
        for file in index.files:
            if file not in used:
                name = file.relative_to(images).as_posix()
                problems.append(Problem('image without boxes', name, 'not in the annotations'))
    return AnnotationSet(tuple(usable), classes, tuple(problems))


def _measure_all(found: list[list[Path]]) -> list[ImageSize | None]:
    """Return the size of each image that was found; in threads, since disks are slow."""
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda files: measure(files[0]) if len(files) == 1 else None, found))


def _check(
    entry: Entry,
    files: list[Path],
    size: ImageSize | None,
    index: ImageIndex,
    labels: dict[Any, int],
    classes: tuple[str, ...],
    frame: str,
) -> tuple[list[AnnotatedImage], list[Problem]]:
    """One entry: ``(an image for each class in it, problems)``."""
    key = entry.key

    def no(kind: str, text: str) -> tuple[list[AnnotatedImage], list[Problem]]:
        return [], [Problem(kind, key, text)]

    if entry.faults:
        return [], [Problem('unreadable annotation', key, text) for text in entry.faults]
    if not files:
        return no('missing file', f'no such image in the folder{index.instead(key)}')
    if len(files) > 1:
        listed = ', '.join(file.name for file in files[:3])
        return no('duplicate id', f'{len(files)} images have this name: {listed}')
    if not entry.boxes:
        crowd = f'only crowd boxes ({entry.crowd}), which are not used' if entry.crowd else ''
        return no('image without boxes', crowd or 'no box in the annotations')
    names = list(dict.fromkeys(entry.names))
    unknown = [name for name in names if labels.get(name) is None]
    problems = [
        Problem('unknown class', key, f'{name!r} is not in the list of classes')
        for name in unknown
    ]
    if len(unknown) == len(names):
        return [], problems
    if size is not None:
        frame = choose_frame(size, entry.size, frame)
        if frame is None:
            said = show_size(entry.size)
            return no('size disagrees', f'the annotations say {said}, {files[0]} is {size}')
    pixels = size.size(frame) if size is not None else entry.size
    owners = entry.names * len(entry.boxes) if len(entry.names) == 1 else entry.names
    found = []
    for name in names:
        if name in unknown:
            continue
        own = [box for box, owner in zip(entry.boxes, owners) if owner == name]
        boxes, faults = _check_boxes(key, own, pixels)
        problems += faults
        if boxes:
            label = int(labels[name])
            word = classes[label] if label < len(classes) else name
            place = key if len(names) == 1 else f'{key} ({word})'
            found.append(AnnotatedImage(place, files[0], label, tuple(boxes), pixels, frame))
    return found, problems


def _check_boxes(
    key: str, given: list, size: tuple[int, int] | None
) -> tuple[list[tuple[float, ...]], list[Problem]]:
    boxes, problems = [], []
    for box in given:
        box = tuple(float(v) for v in box)
        if not all(map(math.isfinite, box)) or box[2] <= box[0] or box[3] <= box[1]:
            text = f'box {list(box)}: x1 and y1 must be beyond x0 and y0'
            problems.append(Problem('empty box', key, text))
            continue
        if size is not None:
            height, width = size
            over = max(-box[0], -box[1], box[2] - width, box[3] - height)
            if over > _SLACK:
                text = f'box {list(box)} in an image of {width} x {height}'
                problems.append(Problem('box outside the image', key, text))
            box = (max(box[0], 0), max(box[1], 0), min(box[2], width), min(box[3], height))
            if box[2] <= box[0] or box[3] <= box[1]:
                continue
        boxes.append(box)
    return boxes, problems
