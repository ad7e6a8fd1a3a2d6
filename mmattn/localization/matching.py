"""Checks annotations and pictures against each other and names every mismatch."""

from __future__ import annotations

import math
import os
from pathlib import Path

from mmattn.localization.pictures import header_size
from mmattn.localization.structures import AnnotationSet, Picture, Problem

SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp', '.tif', '.tiff', '.ppm', '.gif')
_SLACK = 1.0  # pixels: benchmarks count the last pixel as inside or as outside


class PictureIndex:
    """Pictures of a folder, found by relative path, file name, or either without suffix."""

    def __init__(self, folder):
        folder = Path(folder)
        if not folder.is_dir():
            raise ValueError(f'images: {folder} is no folder')
        self.files = []
        for root, _, names in os.walk(folder, followlinks=True):
            files = (Path(root, n) for n in names if n.lower().endswith(SUFFIXES))
            self.files.extend(files)
        self.files.sort()
        if not self.files:
            raise ValueError(f'images: no pictures in {folder}')
        self._paths, self._names = {}, {}
        for file in self.files:
            relative = file.relative_to(folder)
            self._paths[relative.as_posix()] = file
            self._paths[relative.with_suffix('').as_posix()] = file
            for name in (file.name, file.stem):
                self._names.setdefault(name, []).append(file)

    def find(self, key):
        """Files a key may mean: the exact relative path, else all of that name."""
        key = key.replace('\\', '/')
        for start in range(key.count('/') + 1):  # 'images/a/b.jpg', 'a/b.jpg'
            tail = key.split('/', start)[-1]
            if tail in self._paths:
                return [self._paths[tail]]
        name = key.rsplit('/', 1)[-1]
        return self._names.get(name, [])


def match(source, images, synsets=None, num_classes=None):
    """Turns a source's entries into pictures.

    Args:
        source: What a reader returned.
        images: Folder of pictures.
        synsets: ``({name: label}, names)`` or None.
        num_classes: Classes of the classifier, or None.

    Returns:
        An :class:`~mmattn.localization.structures.AnnotationSet`.
    """
    index = PictureIndex(images)
    labels, classes = _labels(source, synsets, num_classes)
    problems, pictures, seen, used = list(source.problems), [], set(), set()
    for entry in source.entries:
        if entry.key in seen:
            problems.append(Problem('duplicate id', entry.key, 'annotated twice; first one kept'))
            continue
        seen.add(entry.key)
        files = index.find(entry.key)
        used.update(files)
        picture, found = _check(entry, files, labels)
        problems += found
        if picture is not None:
            pictures.append(picture)
    if source.complete:
        for file in index.files:
            if file not in used:
                name = file.relative_to(images).as_posix()
                problems.append(Problem('picture without boxes', name, 'not in the annotations'))
    return AnnotationSet(tuple(pictures), classes, tuple(problems))


def _labels(source, synsets, num_classes):
    """``({name: label} or None for plain numbers, class names)``."""
    if source.labels is not None:
        return source.labels, source.classes
    names = {n for e in source.entries for n in e.names}
    if all(isinstance(n, int) for n in names):
        return None, source.classes or (synsets[1] if synsets else ())
    if synsets:
        return synsets
    ordered = sorted(names)
    if num_classes is not None and len(ordered) != num_classes:
        raise ValueError(
            f'the annotations name {len(ordered)} classes and the classifier has {num_classes}, '
            'so the labels of the names are not known: pass synsets, a text file with one class '
            'a line in label order'
        )
    return {name: i for i, name in enumerate(ordered)}, tuple(ordered)


def _check(entry, files, labels):
    """One entry: ``(Picture or None, problems)``."""
    key = entry.key
    if not files:
        return None, [Problem('missing file', key, 'no such picture in the folder')]
    if len(files) > 1:
        return None, [Problem('duplicate id', key, f'{len(files)} pictures have this name')]
    if not entry.boxes:
        return None, [Problem('picture without boxes', key, 'no box in the annotations')]
    if len(set(entry.names)) != 1:
        text = f'{len(set(entry.names))} classes in one picture; the benchmark needs one'
        return None, [Problem('several classes', key, text)]
    name = entry.names[0]
    label = name if labels is None else labels.get(name)
    if label is None:
        return None, [Problem('unknown class', key, f'{name!r} is not in the list of classes')]
    boxes, problems = _check_boxes(entry, entry.size or header_size(files[0]))
    if not boxes:
        return None, problems
    return Picture(key, files[0], int(label), tuple(boxes), entry.size), problems


def _check_boxes(entry, size):
    boxes, problems = [], []
    for box in entry.boxes:
        box = tuple(float(v) for v in box)
        if not all(map(math.isfinite, box)) or box[2] <= box[0] or box[3] <= box[1]:
            problems.append(Problem('empty box', entry.key, f'{list(box)}'))
            continue
        if size is not None:
            height, width = size
            over = max(-box[0], -box[1], box[2] - width, box[3] - height)
            if over > _SLACK:
                text = f'{list(box)} in a picture of {width} x {height}'
                problems.append(Problem('box outside the picture', entry.key, text))
            box = (max(box[0], 0), max(box[1], 0), min(box[2], width), min(box[3], height))
            if box[2] <= box[0] or box[3] <= box[1]:
                continue
        boxes.append(box)
    return boxes, problems
