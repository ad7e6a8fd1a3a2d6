"""Box annotations of the localization benchmarks, all into one typed structure.

The readers of :mod:`mmattn.data` say what the annotations hold; :func:`load_annotations` finds
the images, checks everything and reports every mismatch.

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

from codecs import BOM_UTF8
from collections.abc import Sequence
from pathlib import Path

from mmattn.data.coco import coco_entries
from mmattn.data.tables import boxes_entries, cub_entries, kaggle_entries, wsol_entries
from mmattn.data.voc import ilsvrc_entries
from mmattn.localization.class_names import find_labels, find_synsets, read_synsets
from mmattn.localization.matching import match
from mmattn.localization.structures import AnnotationSet

__all__ = ['FORMATS', 'detect_format', 'load_annotations', 'read_synsets']

READERS = dict(
    ilsvrc=ilsvrc_entries,
    kaggle=kaggle_entries,
    wsol=wsol_entries,
    cub=cub_entries,
    coco=coco_entries,
    boxes=boxes_entries,
)
FORMATS = tuple(READERS)


def detect_format(path: str | Path) -> str:
    """Name the format of an annotation file or folder.

    Raises:
        ValueError: Nothing there looks like one of :data:`FORMATS`.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f'annotations: {path} does not exist')
    if path.is_file() and path.suffix == '.csv':
        return 'kaggle'
    if path.is_file() and path.suffix == '.json':
        with path.open('rb') as file:
            head = file.read(1000).removeprefix(BOM_UTF8).lstrip()
        return 'boxes' if head.startswith(b'[') else 'coco'
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


def load_annotations(
    path: str | Path,
    images: str | Path,
    fmt: str | None = None,
    synsets: str | Path | None = None,
    split: str = 'test',
    num_classes: int | None = None,
    classes: Sequence[str] = (),
) -> AnnotationSet:
    """Read annotations, find the images and check both against each other.

    Args:
        path: Annotation file or folder.
        images: Folder of images, flat or with sub-folders.
        fmt: One of :data:`FORMATS`, or None to find out.
        synsets: Text file with the classes in label order (needed for XML and CSV unless every
            class of the classifier occurs in the annotations, or it knows their names).
        split: ``'test'``, ``'train'`` or ``'all'`` (CUB).
        num_classes: Number of classes of the classifier, where known.
        classes: Names of its classes in label order, where known; the annotations' classes are
            then matched by name.

    Returns:
        The images in the order of the annotations, and every mismatch.

    Raises:
        ValueError: Unknown format, empty folder, a file that cannot be read, or classes whose
            labels cannot be known.
    """
    if fmt is not None and fmt not in READERS:
        raise ValueError(f'format must be one of {", ".join(FORMATS)}, got {fmt!r}')
    fmt = fmt or detect_format(path)
    try:
        source = cub_entries(path, split) if fmt == 'cub' else READERS[fmt](Path(path))
    except OSError as error:
        raise ValueError(f'annotations: {path} cannot be read: {error}') from error
    except ValueError as error:
        raise ValueError(f'annotations: {error}') from error
    listed = find_synsets(path, synsets)
    try:
        labels, names = find_labels(source, listed, num_classes, classes)
    except ValueError as error:
        raise ValueError(f'annotations: {path}: {error}') from error
    return match(source, Path(images), labels, names)
