"""Scenes of real handwritten digits, in COCO and in VOC layout.

The digits are the 1,797 scans that scikit-learn carries (``load_digits``), so neither a download
nor a network is needed. Each scene holds several of them, of various sizes, colours and contrast,
on a cluttered background. Training and validation scenes never share a scan.
"""

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from mmattn.core.text import read_json

__all__ = ['CLASSES', 'make_digits']

CLASSES = ('zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine')
SPLITS = ('train', 'val')
VAL_SHARE = 0.2  # of the scans of each class
INK = 0.3  # share of ink from which a pixel belongs to the digit's box
LAYOUT = 2  # raise it when the images or the files written change: old sets are then replaced
MANIFEST = 'digits.json'


def split_scans(labels: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Deal the scans of each class to training and validation; no scan goes to both.

    Args:
        labels: Class of every scan.
        seed: The deal depends on it.

    Returns:
        Split name to an array of scan indices.
    """
    rng = np.random.default_rng([seed, 0])
    parts = {split: [] for split in SPLITS}
    for label in range(len(CLASSES)):
        scans = rng.permutation(np.flatnonzero(labels == label))
        num_val = round(len(scans) * VAL_SHARE)
        parts['val'].append(scans[:num_val])
        parts['train'].append(scans[num_val:])
    return {split: np.concatenate(scans) for split, scans in parts.items()}


def draw_background(rng: np.random.Generator, size: int) -> np.ndarray:
    """Paint a gradient, soft blobs, lines and rectangles; (size, size, 3), float, 0 to 255."""
    corners = rng.uniform(40, 215, (2, 2, 3)).astype(np.float32)
    image = cv2.resize(corners, (size, size), interpolation=cv2.INTER_LINEAR)
    for _ in range(rng.integers(2, 6)):  # blobs
        centre, colour = rng.integers(0, size, 2).tolist(), rng.uniform(30, 225, 3).tolist()
        axes = rng.integers(max(size // 40, 1), max(size // 6, 2), 2).tolist()
        cv2.ellipse(image, centre, axes, float(rng.uniform(0, 180)), 0, 360, colour, -1)
    for _ in range(rng.integers(0, 3)):  # frames
        start, end = rng.integers(0, size, (2, 2)).tolist()
        cv2.rectangle(image, start, end, rng.uniform(30, 225, 3).tolist(), 1)
    image = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.5, 2.0)))
    for _ in range(rng.integers(2, 8)):  # strokes as thin and as sharp as those of a digit
        start = rng.integers(0, size, 2)
        end = start + rng.integers(-size // 4, size // 4 + 1, 2)
        colour, width = rng.uniform(30, 225, 3).tolist(), int(rng.integers(1, 4))
        cv2.line(image, start.tolist(), end.tolist(), colour, width, cv2.LINE_AA)
    return image


def place_boxes(rng: np.random.Generator, sides: Sequence[int], size: int) -> list[tuple]:
    """Find places for squares of the given sides that overlap each other at most a little.

    Returns:
        ``(x, y, side)`` in pixels; a square that found no place is left out.
    """
    placed = []
    for side in sides:
        for _ in range(30):
            x, y = (int(v) for v in rng.integers(0, size - side + 1, 2))
            overlaps = (
                max(0, min(x + side, px + ps) - max(x, px))
                * max(0, min(y + side, py + ps) - max(y, py))
                / min(side, ps) ** 2
                for px, py, ps in placed
            )
            if max(overlaps, default=0) <= 0.1:
                placed.append((x, y, side))
                break
    return placed


def pick_colour(rng: np.random.Generator, patch: np.ndarray) -> np.ndarray:
    """Choose an ink that stands out from the patch by 60 grey levels or more."""
    grey = float(patch.mean())
    contrast = rng.uniform(60, 130)
    darker = grey - contrast >= 0 and (grey + contrast > 255 or rng.random() < 0.5)
    level = grey - contrast if darker else min(grey + contrast, 255)
    return np.clip(level + rng.uniform(-25, 25, 3), 0, 255)


def draw_digit(
    rng: np.random.Generator, image: np.ndarray, scan: np.ndarray, place: tuple[int, int, int]
) -> list[int]:
    """Paint one scan into the image, in place.

    Returns:
        The smallest box around the ink, ``[x1, y1, x2, y2]``; x2 and y2 lie outside.
    """
    x, y, side = place
    ink = cv2.resize(scan, (side, side), interpolation=cv2.INTER_CUBIC).clip(0, 1)
    patch = image[y : y + side, x : x + side]
    alpha = ink[..., None] * rng.uniform(0.8, 1.0)
    patch[:] = patch * (1 - alpha) + pick_colour(rng, patch) * alpha
    rows, columns = np.flatnonzero((ink > INK).any(1)), np.flatnonzero((ink > INK).any(0))
    return [int(v) for v in (x + columns[0], y + rows[0], x + columns[-1] + 1, y + rows[-1] + 1)]


def draw_scene(
    rng: np.random.Generator,
    scans: np.ndarray,
    labels: np.ndarray,
    pool: np.ndarray,
    size: int,
    most: int,
) -> tuple[np.ndarray, list[dict]]:
    """Paint one scene.

    Args:
        rng: The only source of chance.
        scans: All scans, (number, 8, 8), ink from 0 to 1.
        labels: Class of every scan.
        pool: Numbers of the scans that may be used.
        size: Height and width in pixels.
        most: Largest number of digits; 1 means exactly one.

    Returns:
        The image (size, size, 3) uint8 and a list of dicts ``scan, label, box``.
    """
    image = draw_background(rng, size)
    number = int(rng.integers(min(2, most), most + 1))
    sides = rng.integers(max(size // 8, 12), max(size * 3 // 8, 13) + 1, number).tolist()
    digits = []
    for place in place_boxes(rng, sorted(sides, reverse=True), size):
        scan = int(rng.choice(pool))
        box = draw_digit(rng, image, scans[scan], place)
        digits.append(dict(scan=scan, label=int(labels[scan]), box=box))
    noise = rng.normal(0, rng.uniform(2, 10), image.shape)
    return (image + noise).clip(0, 255).astype(np.uint8), digits


def write_image(path: Path, image: np.ndarray) -> None:
    """Write a JPEG or raise OSError (OpenCV itself only returns False)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, 95]):
        raise OSError(f'cannot write the image {path}: is the disk full or the folder read-only?')


def write_coco(path: Path, scenes: Sequence[tuple], size: int) -> None:
    """Write the boxes of one split as a COCO file; category ids run from 1 to 10."""
    images, annotations = [], []
    for number, (name, digits) in enumerate(scenes, 1):
        images.append(dict(id=number, file_name=name, width=size, height=size))
        for digit in digits:
            x1, y1, x2, y2 = digit['box']
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=number,
                    category_id=digit['label'] + 1,
                    bbox=[x1, y1, x2 - x1, y2 - y1],
                    area=(x2 - x1) * (y2 - y1),
                    iscrowd=0,
                    scan=digit['scan'],
                )
            )
    categories = [dict(id=i, name=name) for i, name in enumerate(CLASSES, 1)]
    content = dict(images=images, annotations=annotations, categories=categories)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_voc(root: Path, split: str, folder: Path, scenes: Sequence[tuple], size: int) -> None:
    """Write the same split in VOC layout (corners count from 1 and belong to the box)."""
    for sub in ('Annotations', 'JPEGImages', 'ImageSets/Main'):
        (root / sub).mkdir(parents=True, exist_ok=True)
    names = []
    for name, digits in scenes:
        names.append(f'{split}_{Path(name).stem}')
        objects = ''.join(
            f'<object><name>{CLASSES[d["label"]]}</name><difficult>0</difficult><bndbox>'
            f'<xmin>{d["box"][0] + 1}</xmin><ymin>{d["box"][1] + 1}</ymin>'
            f'<xmax>{d["box"][2]}</xmax><ymax>{d["box"][3]}</ymax></bndbox></object>\n'
            for d in digits
        )
        (root / 'Annotations' / f'{names[-1]}.xml').write_text(
            f'<annotation><filename>{names[-1]}.jpg</filename><size><width>{size}</width>'
            f'<height>{size}</height><depth>3</depth></size>\n{objects}</annotation>\n'
        )
        shutil.copyfile(folder / name, root / 'JPEGImages' / f'{names[-1]}.jpg')
    (root / 'ImageSets' / 'Main' / f'{split}.txt').write_text('\n'.join(names) + '\n')


def write_split(
    root: Path,
    split: str,
    options: Mapping[str, int],
    scans: np.ndarray,
    labels: np.ndarray,
    pool: np.ndarray,
    drawn: Callable[[int], object],
) -> int:
    """Draw and write every scene of one split below ``root``."""
    scenes, folder = [], root / split
    if options['one_digit']:  # a class that no scene has still has a folder
        for name in CLASSES:
            (folder / name).mkdir(parents=True, exist_ok=True)
    total, most = options[split], 1 if options['one_digit'] else options['digits']
    for i in range(total):
        rng = np.random.default_rng([options['seed'], 1 + SPLITS.index(split), i])
        image, digits = draw_scene(rng, scans, labels, pool, options['size'], most)
        name = f'{i + 1:05d}.jpg'
        if options['one_digit']:
            name = f'{CLASSES[digits[0]["label"]]}/{name}'
        write_image(folder / name, image)
        scenes.append((name, digits))
        drawn(i + 1)
    write_coco(root / 'annotations' / f'instances_{split}.json', scenes, options['size'])
    if not options['one_digit']:
        write_voc(root / 'voc', split, folder, scenes, options['size'])
    return sum(len(digits) for _, digits in scenes)


def write_all(root: Path, options: Mapping[str, int], drawn: Callable[[int], object]) -> dict:
    """Write both splits and, last of all, the manifest that marks the set as whole."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            'the digit scenes need scikit-learn: pip install scikit-learn'
        ) from error
    source = load_digits()
    scans, labels = (source.images / 16).astype(np.float32), source.target
    boxes, before = {}, 0
    for split, pool in split_scans(labels, options['seed']).items():
        tell = partial(_add, drawn, before)
        boxes[split] = write_split(root, split, options, scans, labels, pool, tell)
        before += options[split]
    content = dict(options, layout=LAYOUT, classes=CLASSES, boxes=boxes)
    (root / MANIFEST).write_text(json.dumps(content, indent=1))
    return content


def _add(drawn: Callable[[int], object], before: int, done: int) -> None:
    drawn(before + done)


def read_manifest(out: Path) -> dict | None:
    """Return the manifest of a whole set, None where there is none or images are missing."""
    try:
        content = read_json(out / MANIFEST)
        complete = all(
            sum(1 for _ in (out / split).rglob('*.jpg')) == content[split] for split in SPLITS
        )
    except (OSError, ValueError, KeyError):
        return None
    return content if complete else None


def check_options(out: Path, options: Mapping[str, int]) -> None:
    """Refuse values that cannot give a set, and folders that hold something else."""
    limits = dict(
        train=(1, 99999), val=(1, 99999), size=(32, 4096), digits=(1, 50), seed=(0, None)
    )
    for name, (low, high) in limits.items():
        value = options[name]
        if value < low or (high is not None and value > high):
            allowed = f'from {low} to {high}' if high is not None else f'>= {low}'
            raise ValueError(f'{name} must be {allowed}, got {value}')
    if out.exists() and not out.is_dir():
        raise ValueError(f'{out} is a file; give the name of a folder')
    if out.is_dir() and any(out.iterdir()) and not (out / MANIFEST).is_file():
        raise ValueError(
            f'{out} is not empty and holds no {MANIFEST}, so it was not written by this tool and '
            'is left alone; give another folder'
        )


def tidy_up(out: Path) -> None:
    """Undo what an interrupted run left: restore the old set, delete half-written folders."""
    old = out.with_name(f'.{out.name}.old')
    if old.is_dir() and not out.exists():
        old.rename(out)
    for left in [old, *out.parent.glob(f'.{out.name}.tmp-*')]:
        owner = left.name.rpartition('-')[2]
        if not (owner.isdigit() and Path('/proc', owner).exists()):
            shutil.rmtree(left, ignore_errors=True)


def make_digits(
    out: str | Path,
    train: int = 1200,
    val: int = 200,
    size: int = 160,
    digits: int = 6,
    seed: int = 0,
    one_digit: bool = False,
    report: Callable[[str], object] = lambda line: None,
    drawn: Callable[[int], object] = lambda scenes: None,
) -> dict:
    """Write a set of digit scenes, or keep the one that is there if it is the same.

    The set appears in one piece: it is written to a folder beside ``out`` and renamed at the end,
    so an interrupted run leaves the old set, or nothing, under that name.

    Args:
        out: Folder to write.
        train: Number of training scenes.
        val: Number of validation scenes.
        size: Height and width of a scene in pixels.
        digits: Largest number of digits in a scene.
        seed: The same seed gives the same files.
        one_digit: Exactly one digit a scene, one folder a class.
        report: Receives each line meant for the user.
        drawn: Receives the number of scenes drawn so far, after each.

    Returns:
        What the manifest says: the options, the classes, the number of boxes of each split.

    Raises:
        ValueError: An option out of range, or ``out`` holds something else.
        ImportError: scikit-learn is missing.
    """
    out = Path(out).absolute()
    options = dict(train=train, val=val, size=size, digits=digits, seed=seed, one_digit=one_digit)
    check_options(out, options)
    out.parent.mkdir(parents=True, exist_ok=True)
    tidy_up(out)
    found = read_manifest(out)
    if found and {**found, **options, 'layout': LAYOUT} == found:
        report(f'{out}: the same set is there already, nothing to do')
        return found
    report(f'drawing {train} training and {val} validation scenes, {size} x {size} pixels')
    work = out.with_name(f'.{out.name}.tmp-{os.getpid()}')
    try:
        work.mkdir()
        written = write_all(work, options, drawn)
        if out.exists():
            out.rename(out.with_name(f'.{out.name}.old'))
        work.rename(out)
    finally:
        shutil.rmtree(work, ignore_errors=True)
        tidy_up(out)
    report(f'{out}: {written["boxes"]["train"]} + {written["boxes"]["val"]} digits with boxes')
    return written
