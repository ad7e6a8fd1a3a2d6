"""Box annotations of the localization benchmarks, all into one typed structure.

Readers turn a file or folder into :class:`Entry` records (what the annotations say);
:func:`load_annotations` finds the pictures, checks everything and reports every mismatch.

===========  ==================================================================================
``ilsvrc``   folder of ILSVRC CLS-LOC XML files (flat or a folder per class)
``kaggle``   ``LOC_val_solution.csv``
``wsol``     wsolevaluation's metadata folder: image_ids, class_labels, image_sizes, localization
``cub``      CUB-200-2011: images.txt, bounding_boxes.txt, image_class_labels.txt, ...
``coco``     COCO-format JSON
``boxes``    list of ``{file, label, width, height, boxes [[x1, y1, x2, y2], ...]}``
===========  ==================================================================================
"""

from __future__ import annotations

import csv
import io
import xml.etree.ElementTree as ET
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from mmattn.core.text import read_json, read_lines, read_text
from mmattn.localization.matching import match
from mmattn.localization.structures import Problem

FORMATS = ('ilsvrc', 'kaggle', 'wsol', 'cub', 'coco', 'boxes')
SYNSET_FILES = ('LOC_synset_mapping.txt', 'synset_words.txt', 'synsets.txt')


@dataclass
class Entry:
    """What the annotations say about one picture, unchecked.

    Args:
        key: Name of the picture, with or without folder and suffix.
        names: Class of each box: wnid, class index, or category id.
        boxes: ``(x0, y0, x1, y1)`` each.
        size: ``(height, width)`` or None.
    """

    key: str
    names: list = field(default_factory=list)
    boxes: list = field(default_factory=list)
    size: tuple | None = None


@dataclass(frozen=True)
class Source:
    """Entries of one annotation file or folder.

    Args:
        entries: One :class:`Entry` a picture.
        classes: Class names in label order where the source knows them.
        labels: ``{name: label}`` where the source knows it.
        complete: Whether every picture of the folder should have an entry.
        problems: Mismatches inside the source.
    """

    entries: list
    classes: tuple = ()
    labels: dict | None = None
    complete: bool = True
    problems: tuple = ()


def detect_format(path):
    """Names the format of an annotation file or folder.

    Raises:
        ValueError: Nothing there looks like one of :data:`FORMATS`.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f'annotations: {path} does not exist')
    if path.is_file() and path.suffix == '.csv':
        return 'kaggle'
    if path.is_file() and path.suffix == '.json':
        head = read_text(path).lstrip()
        return 'boxes' if head.startswith('[') else 'coco'
    if path.is_dir():
        if (path / 'bounding_boxes.txt').exists():
            return 'cub'
        if (path / 'image_ids.txt').exists():
            return 'wsol'
        if next(path.rglob('*.xml'), None) is not None:
            return 'ilsvrc'
    raise ValueError(
        f'annotations: {path} is none of the known formats ({", ".join(FORMATS)}); '
        'expected a folder of XML or text files, a .csv or a .json'
    )


def read_ilsvrc(path):
    """ILSVRC CLS-LOC XML: one file a picture, objects named by wnid."""
    entries, problems = [], []
    for file in sorted(Path(path).rglob('*.xml')):
        try:
            root = ET.parse(file).getroot()
            entry = Entry(file.stem)
            size = root.find('size')
            if size is not None:
                entry.size = (int(size.findtext('height')), int(size.findtext('width')))
            for item in root.iter('object'):
                box = item.find('bndbox')
                corners = [float(box.findtext(k)) for k in ('xmin', 'ymin', 'xmax', 'ymax')]
                entry.names.append(item.findtext('name').strip())
                entry.boxes.append(tuple(corners))
        except (ET.ParseError, TypeError, ValueError, AttributeError) as error:
            problems.append(Problem('unreadable annotation', file.stem, f'{file.name}: {error}'))
            continue
        entries.append(entry)
    return Source(entries, problems=tuple(problems))


def read_kaggle(path):
    """Kaggle's CSV: ``ImageId, "wnid x0 y0 x1 y1 wnid x0 ..."``."""
    entries, problems = [], []
    for row in csv.DictReader(io.StringIO(read_text(path, newline=''), newline='')):
        entry = Entry(row['ImageId'])
        tokens = (row.get('PredictionString') or '').split()
        if len(tokens) % 5:
            text = f'{len(tokens)} words in PredictionString, no multiple of 5'
            problems.append(Problem('unreadable annotation', entry.key, text))
            continue
        for i in range(0, len(tokens), 5):
            entry.names.append(tokens[i])
            entry.boxes.append(tuple(float(v) for v in tokens[i + 1 : i + 5]))
        entries.append(entry)
    return Source(entries, problems=tuple(problems))


def read_wsol(path):
    """wsolevaluation's metadata folder (one split), ``id,values`` lines."""
    path = Path(path)
    entries = {key: Entry(key) for (key,) in _rows(path / 'image_ids.txt', ',', 1)}
    for key, label in _rows(path / 'class_labels.txt', ',', 2):
        entries[key].names = [int(label)]
    if (path / 'image_sizes.txt').exists():
        for key, width, height in _rows(path / 'image_sizes.txt', ',', 3):
            entries[key].size = (int(height), int(width))
    for key, *box in _rows(path / 'localization.txt', ',', 5):
        entries[key].boxes.append(tuple(float(v) for v in box))
    return Source(list(entries.values()), complete=False)


def read_cub(path, split='test'):
    """CUB-200-2011; its ``test`` pictures, unless another split is asked for."""
    path = Path(path)
    files = dict(_rows(path / 'images.txt', None, 2))
    classes = tuple(name for _, name in _rows(path / 'classes.txt', None, 2))
    wanted = set(files)
    if split != 'all' and (path / 'train_test_split.txt').exists():
        flag = '1' if split == 'train' else '0'
        wanted = {i for i, train in _rows(path / 'train_test_split.txt', None, 2) if train == flag}
    entries = {i: Entry(name) for i, name in files.items() if i in wanted}
    for i, label in _rows(path / 'image_class_labels.txt', None, 2):
        if i in entries:
            entries[i].names = [int(label) - 1]
    for i, *box in _rows(path / 'bounding_boxes.txt', None, 5):
        if i in entries:
            x, y, w, h = (float(v) for v in box)
            entries[i].boxes.append((x, y, x + w, y + h))
    return Source(list(entries.values()), classes, complete=False)


def read_coco(path):
    """COCO-format JSON; the label is the category's place in the order of category ids."""
    data = _read_json(path)
    missing = [k for k in ('images', 'annotations', 'categories') if k not in data]
    if missing:
        raise ValueError(f'annotations: {path} has no {", ".join(missing)}, so it is no COCO file')
    categories = sorted(data['categories'], key=lambda c: c['id'])
    labels = {c['id']: i for i, c in enumerate(categories)}
    boxes = defaultdict(list)
    for item in data['annotations']:
        if not item.get('iscrowd'):
            x, y, w, h = item['bbox']
            boxes[item['image_id']].append((item['category_id'], (x, y, x + w, y + h)))
    entries = []
    for image in data['images']:
        found = boxes.get(image['id'], ())
        size = (image['height'], image['width']) if 'height' in image else None
        names, corners = [n for n, _ in found], [b for _, b in found]
        entries.append(Entry(image['file_name'], names, corners, size))
    return Source(entries, tuple(c['name'] for c in categories), labels)


def read_boxes(path):
    """The simple list of ``{file, label, boxes}``."""
    entries = []
    for i, item in enumerate(_read_json(path)):
        missing = [k for k in ('file', 'label', 'boxes') if k not in item]
        if missing:
            raise ValueError(f'annotations: entry {i} of {path} has no {", ".join(missing)}')
        size = (item['height'], item['width']) if 'height' in item else None
        boxes = [tuple(b) for b in item['boxes']]
        if any(len(box) != 4 for box in boxes):
            raise ValueError(
                f'annotations: entry {i} of {path} must have boxes [x1, y1, x2, y2], '
                f'got {item["boxes"]}'
            )
        label = item['label']
        number = isinstance(label, (int, float)) and not isinstance(label, bool)
        if not number or label != label // 1:
            raise ValueError(
                f'annotations: entry {i} of {path} must have a label that is a whole number (the '
                f"place of its class among the classifier's, from 0), got {label!r}"
            )
        entries.append(Entry(item['file'], [int(label)], boxes, size))
    return Source(entries)


def _read_json(path):
    try:
        return read_json(path)
    except ValueError as error:
        raise ValueError(f'annotations: {error}') from error


def _rows(path, separator, count):
    """Fields of each non-empty line; the last field keeps further separators."""
    if not path.exists():
        raise ValueError(f'annotations: {path} does not exist')
    for number, line in enumerate(read_lines(path), 1):
        if line.strip():
            fields = [f.strip() for f in line.strip().split(separator, count - 1)]
            if len(fields) != count:
                raise ValueError(f'{path} line {number}: expected {count} fields, got {line!r}')
            yield tuple(fields)


def read_synsets(path):
    """Class names in label order from a text file, one class a line, first word is the name.

    Returns:
        ``({name: label}, readable names)``.
    """
    labels, names = {}, []
    for line in read_lines(path):
        if line.strip():
            word, _, rest = line.strip().partition(' ')
            labels[word] = len(labels)
            names.append(rest.strip() or word)
    return labels, tuple(names)


READERS = dict(
    ilsvrc=read_ilsvrc,
    kaggle=read_kaggle,
    wsol=read_wsol,
    cub=read_cub,
    coco=read_coco,
    boxes=read_boxes,
)


def load_annotations(path, images, fmt=None, synsets=None, split='test', num_classes=None):
    """Reads annotations, finds the pictures and checks both against each other.

    Args:
        path: Annotation file or folder.
        images: Folder of pictures, flat or with sub-folders.
        fmt: One of :data:`FORMATS`, or None to find out.
        synsets: Text file with the classes in label order (needed for XML and CSV unless every
            class of the classifier occurs in the annotations).
        split: ``'test'``, ``'train'`` or ``'all'`` (CUB).
        num_classes: Number of classes of the classifier, where known.

    Returns:
        An :class:`~mmattn.localization.structures.AnnotationSet`; pictures in the order of the
        annotations.

    Raises:
        ValueError: Unknown format, empty folder, or wnids whose labels cannot be known.
    """
    if fmt is not None and fmt not in READERS:
        raise ValueError(f'format must be one of {", ".join(FORMATS)}, got {fmt!r}')
    fmt = fmt or detect_format(path)
    source = read_cub(path, split) if fmt == 'cub' else READERS[fmt](path)
    return match(source, Path(images), _find_synsets(path, synsets), num_classes)


def _find_synsets(path, synsets):
    if synsets is not None:
        if not Path(synsets).is_file():
            raise ValueError(f'synsets: {synsets} does not exist')
        return read_synsets(synsets)
    path = Path(path)
    for folder in (path if path.is_dir() else path.parent, path.parent):
        for name in SYNSET_FILES:
            if (folder / name).is_file():
                return read_synsets(folder / name)
    return None
