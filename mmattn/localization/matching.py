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
        image, own = _check(entry, files, size, index, labels, source.frame)
        problems += own
        if image is not None:
            usable.append(image)
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
    frame: str,
) -> tuple[AnnotatedImage | None, list[Problem]]:
    """One entry: ``(AnnotatedImage or None, problems)``."""
    key = entry.key

    def no(kind: str, text: str) -> tuple[None, list[Problem]]:
        return None, [Problem(kind, key, text)]

    if entry.faults:
        return None, [Problem('unreadable annotation', key, text) for text in entry.faults]
    if not files:
        return no('missing file', f'no such image in the folder{index.instead(key)}')
    if len(files) > 1:
        listed = ', '.join(file.name for file in files[:3])
        return no('duplicate id', f'{len(files)} images have this name: {listed}')
    if not entry.boxes:
        crowd = f'only crowd boxes ({entry.crowd}), which are not used' if entry.crowd else ''
        return no('image without boxes', crowd or 'no box in the annotations')
    if len(set(entry.names)) != 1:
        text = f'{len(set(entry.names))} classes in one image; the benchmark needs one'
        return no('several classes', text)
    name = entry.names[0]
    label = labels.get(name)
    if label is None:
        return no('unknown class', f'{name!r} is not in the list of classes')
    if size is not None:
        frame = choose_frame(size, entry.size, frame)
        if frame is None:
            said = show_size(entry.size)
            return no('size disagrees', f'the annotations say {said}, {files[0]} is {size}')
    pixels = size.size(frame) if size is not None else entry.size
    boxes, problems = _check_boxes(entry, pixels)
    if not boxes:
        return None, problems
    return AnnotatedImage(key, files[0], int(label), tuple(boxes), pixels, frame), problems


def _check_boxes(
    entry: Entry, size: tuple[int, int] | None
) -> tuple[list[tuple[float, ...]], list[Problem]]:
    boxes, problems = [], []
    for box in entry.boxes:
        box = tuple(float(v) for v in box)
        if not all(map(math.isfinite, box)) or box[2] <= box[0] or box[3] <= box[1]:
            text = f'box {list(box)}: x1 and y1 must be beyond x0 and y0'
            problems.append(Problem('empty box', entry.key, text))
            continue
        if size is not None:
            height, width = size
            over = max(-box[0], -box[1], box[2] - width, box[3] - height)
            if over > _SLACK:
                text = f'box {list(box)} in an image of {width} x {height}'
                problems.append(Problem('box outside the image', entry.key, text))
            box = (max(box[0], 0), max(box[1], 0), min(box[2], width), min(box[3], height))
            if box[2] <= box[0] or box[3] <= box[1]:
                continue
        boxes.append(box)
    return boxes, problems
