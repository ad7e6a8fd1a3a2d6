"""What every field of an annotation file must hold, and who reads it.

One table a layout. The checks before a training and the readers of localization use the same
tables, so a value is right or wrong for both, and the sentence about it is the same.

A field is *needed* by a reader that fails without it, and *read* by one that takes it where it is
there. Nothing is said of a field that no reader in use looks at.
"""

from collections.abc import Mapping, Set
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from mmattn.core.names import did_you_mean
from mmattn.data.values import (
    AREA,
    CATEGORY_ID,
    CORNERS,
    FLAG,
    ID,
    IMAGE_ID,
    LABEL,
    NAME,
    SEGMENTATION,
    SIDE,
    TEXT_FLAG,
    TEXT_ID,
    TEXT_LABEL,
    TEXT_LABEL_FROM_1,
    TEXT_LENGTH,
    TEXT_NUMBER,
    TEXT_SIDE,
    XYWH,
    Kind,
    show,
)

__all__ = [
    'BOXES',
    'COCO',
    'CUB',
    'EVALUATOR',
    'EntryReader',
    'Fault',
    'Field',
    'KAGGLE',
    'LAYOUTS',
    'LOADER',
    'LOCALIZATION',
    'MASKS',
    'VOC',
    'WSOL',
    'field_tables',
]

LOADER = 'loader'  # the data set of mmdet
MASKS = 'masks'  # a pipeline with masks, or a metric on them
EVALUATOR = 'evaluator'  # pycocotools, which reads the file on its own
LOCALIZATION = 'localization'  # tools/localize.py


@dataclass(frozen=True)
class Fault:
    """A value of an annotation file that cannot be used.

    Args:
        file: The annotation file.
        entry: The place in it, such as ``annotations[3] (id 7)`` or ``line 3``.
        field: The field's name.
        text: What is wrong, a phrase that names the field.
        key: The image it belongs to, as the file names it, where that is known.
    """

    file: str
    entry: str
    field: str
    text: str
    key: Any = None

    def __str__(self) -> str:
        return f'{self.file}: {self.entry}: {self.text}'


@dataclass(frozen=True)
class Field:
    """One field of an entry.

    Args:
        name: As the file spells it.
        kind: Type and range.
        needed_by: Readers that fail without it.
        read_by: Further readers that take it where it is there.
        null: Whether null means that it is not there, for those who do not need it.
    """

    name: str
    kind: Kind
    needed_by: tuple[str, ...] = ()
    read_by: tuple[str, ...] = ()
    null: bool = False


class EntryReader:
    """Reads the fields of entries that some readers look at.

    Args:
        fields: The table of the layout.
        readers: Who reads the file now.
    """

    def __init__(self, fields: tuple[Field, ...], readers: Set[str]) -> None:
        self._fields = [
            (field, field.name, field.kind.read, needed)
            for field in fields
            for needed in [not readers.isdisjoint(field.needed_by)]
            if needed or not readers.isdisjoint(field.read_by)
        ]

    def __call__(self, entry: Any) -> tuple[dict[str, Any], list[tuple[str, str]]]:
        """Read one entry.

        Args:
            entry: A mapping of names to values; anything else is one fault.

        Returns:
            The good values by name, and what is wrong as ``(field name, phrase)``.
        """
        if not isinstance(entry, Mapping):
            name = self._fields[0][1]
            return {}, [('', f'must be an object with fields such as {name!r}, got {show(entry)}')]
        values, faults = {}, []
        for field, name, read, needed in self._fields:
            if name not in entry:
                if needed:
                    faults.append((name, _absent(name, tuple(map(str, entry)))))
                continue
            value = entry[name]
            if value is None and field.null and not needed:
                continue
            try:
                values[name] = read(value)
            except (ValueError, TypeError, OverflowError):
                faults.append((name, f'{name} must be {field.kind.allowed}, got {show(value)}'))
        return values, faults


@lru_cache(1024)
def _absent(name: str, names: tuple[str, ...]) -> str:
    return f'has no {name!r}{did_you_mean(name, names, sep="; ")}'


_EVERYONE = (LOADER, EVALUATOR, LOCALIZATION)

COCO = dict(
    images=(
        Field('id', ID, _EVERYONE),
        Field('file_name', NAME, (LOADER, LOCALIZATION)),
        Field('width', SIDE, (LOADER,), (LOCALIZATION,)),
        Field('height', SIDE, (LOADER,), (LOCALIZATION,)),
    ),
    annotations=(
        Field('id', ID, (LOADER, EVALUATOR)),
        Field('image_id', IMAGE_ID, _EVERYONE),
        Field('category_id', CATEGORY_ID, _EVERYONE),
        Field('bbox', XYWH, _EVERYONE),
        Field('area', AREA, (LOADER, EVALUATOR)),
        Field('iscrowd', FLAG, (EVALUATOR,), (LOADER, LOCALIZATION), null=True),
        Field('ignore', FLAG, (), (LOADER,), null=True),
        Field('segmentation', SEGMENTATION, (MASKS,)),
    ),
    categories=(
        Field('id', ID, _EVERYONE),
        Field('name', NAME, _EVERYONE),
    ),
)
"""COCO's JSON."""

VOC = dict(
    size=(
        Field('width', TEXT_SIDE, (LOADER, LOCALIZATION)),
        Field('height', TEXT_SIDE, (LOADER, LOCALIZATION)),
    ),
    object=(
        Field('name', NAME, (LOADER, LOCALIZATION)),
        Field('difficult', TEXT_FLAG, (), (LOADER,)),
    ),
    bndbox=tuple(
        Field(name, TEXT_NUMBER, (LOADER, LOCALIZATION))
        for name in ('xmin', 'ymin', 'xmax', 'ymax')
    ),
)
"""VOC's XML, and ILSVRC's, which is the same; ``size`` may be missing."""

KAGGLE = dict(
    columns=(
        Field('ImageId', NAME, (LOCALIZATION,)),
        Field('PredictionString', NAME, (LOCALIZATION,)),
    ),
    PredictionString=(
        Field('class', NAME, (LOCALIZATION,)),
        *(Field(name, TEXT_NUMBER, (LOCALIZATION,)) for name in ('x0', 'y0', 'x1', 'y1')),
    ),
)
"""Kaggle's CSV; a PredictionString is a series of groups of five words."""

WSOL = {
    'image_ids.txt': (Field('image', NAME, (LOCALIZATION,)),),
    'class_labels.txt': (
        Field('image', NAME, (LOCALIZATION,)),
        Field('label', TEXT_LABEL, (LOCALIZATION,)),
    ),
    'image_sizes.txt': (
        Field('image', NAME, (LOCALIZATION,)),
        Field('width', TEXT_SIDE, (LOCALIZATION,)),
        Field('height', TEXT_SIDE, (LOCALIZATION,)),
    ),
    'localization.txt': (
        Field('image', NAME, (LOCALIZATION,)),
        *(Field(name, TEXT_NUMBER, (LOCALIZATION,)) for name in ('x0', 'y0', 'x1', 'y1')),
    ),
}
"""wsolevaluation's metadata: a line is ``image,value,...``."""

CUB = {
    'images.txt': (
        Field('id', TEXT_ID, (LOCALIZATION,)),
        Field('image', NAME, (LOCALIZATION,)),
    ),
    'classes.txt': (
        Field('id', TEXT_LABEL_FROM_1, (LOCALIZATION,)),
        Field('name', NAME, (LOCALIZATION,)),
    ),
    'train_test_split.txt': (
        Field('id', TEXT_ID, (LOCALIZATION,)),
        Field('train', TEXT_FLAG, (LOCALIZATION,)),
    ),
    'image_class_labels.txt': (
        Field('id', TEXT_ID, (LOCALIZATION,)),
        Field('class', TEXT_LABEL_FROM_1, (LOCALIZATION,)),
    ),
    'bounding_boxes.txt': (
        Field('id', TEXT_ID, (LOCALIZATION,)),
        Field('x', TEXT_NUMBER, (LOCALIZATION,)),
        Field('y', TEXT_NUMBER, (LOCALIZATION,)),
        Field('width', TEXT_LENGTH, (LOCALIZATION,)),
        Field('height', TEXT_LENGTH, (LOCALIZATION,)),
    ),
}
"""CUB-200-2011: a line is ``id value ...``."""

BOXES = dict(
    entries=(
        Field('file', NAME, (LOCALIZATION,)),
        Field('label', LABEL, (LOCALIZATION,)),
        Field('boxes', CORNERS, (LOCALIZATION,)),
        Field('width', SIDE, (), (LOCALIZATION,)),
        Field('height', SIDE, (), (LOCALIZATION,)),
    )
)
"""The list of ``{file, label, boxes}`` of this project."""

LAYOUTS = dict(coco=COCO, voc=VOC, kaggle=KAGGLE, wsol=WSOL, cub=CUB, boxes=BOXES)

_READERS = {
    LOADER: 'training, testing',
    MASKS: 'masks',
    EVALUATOR: 'the evaluator',
    LOCALIZATION: 'localization',
}
_TITLES = dict(
    coco="COCO's JSON",
    voc="VOC's XML, and ILSVRC's",
    kaggle="Kaggle's CSV",
    wsol="wsolevaluation's text files",
    cub="CUB-200-2011's text files",
    boxes="mmattn's own JSON list",
)


def field_tables() -> str:
    """Write the tables of all layouts for people, in Markdown."""
    lines = []
    for layout, groups in LAYOUTS.items():
        lines += ['', f'**{_TITLES[layout]}**', '']
        lines += ['| in | field | must be | needed by | read by |', '|---|---|---|---|---|']
        for group, fields in groups.items():
            for field in fields:
                needed, read = (
                    ', '.join(_READERS[reader] for reader in readers)
                    for readers in (field.needed_by, field.read_by)
                )
                allowed = field.kind.allowed + (', or null' if field.null else '')
                lines.append(f'| `{group}` | `{field.name}` | {allowed} | {needed} | {read} |')
    return '\n'.join(lines).strip() + '\n'
