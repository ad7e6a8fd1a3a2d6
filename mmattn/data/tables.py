"""Text layouts: Kaggle's CSV, wsolevaluation's and CUB's lines, and this project's own JSON."""

import csv
import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.logging import print_log

from mmattn.core.names import did_you_mean
from mmattn.core.text import read_json, read_lines, read_text
from mmattn.data.entries import Entry, Source
from mmattn.data.fields import BOXES, CUB, KAGGLE, LOCALIZATION, WSOL, EntryReader
from mmattn.data.values import show

__all__ = ['boxes_entries', 'cub_entries', 'kaggle_entries', 'wsol_entries']

_READERS = {LOCALIZATION}
_DELIMITERS = (',', ';', '\t', '|')


def kaggle_entries(path: Path) -> Source:
    """Return the entries of Kaggle's CSV: ``ImageId, "wnid x0 y0 x1 y1 wnid x0 ..."``.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is not UTF-8 or not CSV, or its first line lacks a column.
    """
    entries, rest = [], []
    read = EntryReader(KAGGLE['columns'], _READERS)
    for line, row in _csv_rows(path):
        values, bad = read(row)
        key = values.get('ImageId', f'line {line}')
        place = f'{path}: line {line}'
        if bad:
            rest.append((key, f'{place}: {bad[0][1]}'))
            continue
        entry = Entry(key)
        entry.faults = _read_prediction(entry, values['PredictionString'], f'{place} ({key})')
        entries.append(entry)
    return Source(entries, frame='stored', faults=tuple(rest))


def _csv_rows(path: Path) -> Iterator[tuple[int, dict]]:
    """Each line of a CSV file with a first line of names, as ``(line number, row)``."""
    text = read_text(path, newline='')
    line = 1
    try:
        options = dict(delimiter=_delimiter(path, text), skipinitialspace=True, strict=True)
        table = csv.DictReader(io.StringIO(text), restkey='', **options)
        for row in table:
            line = table.line_num
            if '' in row:
                raise csv.Error(f'it has more columns than the first line: {show(row[""])}')
            yield line, {name: value for name, value in row.items() if value is not None}
    except csv.Error as error:
        raise ValueError(f'{path}: line {line} cannot be read: {error}') from error


def _delimiter(path: Path, text: str) -> str:
    """Return what separates the columns; found by the names in the first line."""
    line = text.split('\n', 1)[0].rstrip('\r')
    wanted = [field.name for field in KAGGLE['columns']]
    heads = {
        delimiter: next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])
        for delimiter in _DELIMITERS
    }
    for delimiter, head in heads.items():
        if set(wanted) <= set(head):
            if delimiter != ',':
                said = f'{path}: the columns {", ".join(head)} are separated by {delimiter!r}'
                print_log(said, 'current', logging.WARNING)
            return delimiter
    head = max(heads.values(), key=len)
    hint = did_you_mean(next(name for name in wanted if name not in head), head)
    raise ValueError(
        f'{path}: the first line must name the columns {" and ".join(wanted)}, it has '
        f'{", ".join(map(repr, head)) or "nothing"}{hint}'
    )


def _read_prediction(entry: Entry, text: str, place: str) -> list[str]:
    """Fill an entry from its groups of words; the sentences about what cannot be used."""
    fields, words = KAGGLE['PredictionString'], text.split()
    if len(words) % len(fields):
        return [
            f'{place}: PredictionString must be groups of {len(fields)} words (class x0 y0 x1 '
            f'y1), got {len(words)}: {show(text)}'
        ]
    faults, read = [], EntryReader(fields, _READERS)
    for start in range(0, len(words), len(fields)):
        named = dict(zip((field.name for field in fields), words[start:]))
        values, bad = read(named)
        faults += [f'{place}: PredictionString: {text}' for _, text in bad]
        if not bad:
            name, *box = values.values()
            entry.names.append(name)
            entry.boxes.append(tuple(box))
    return faults


# ------------------------------------------------------------------------------ lines of fields


def _rows(path: Path, table: dict, separator: str | None) -> Iterator[tuple[str, dict, str]]:
    """Each line that is not empty as ``(place, values, fault or '')``.

    With a separator, further ones belong to the name at the start; with blanks, further ones
    belong to the name at the end.
    """
    if not path.is_file():
        raise ValueError(f'{path} does not exist')
    fields = table[path.name]
    read = EntryReader(fields, _READERS)
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip():
            continue
        place = f'{path}: line {number}'
        if separator is None:
            words = line.split(None, len(fields) - 1)
        else:
            found = next((d for d in _DELIMITERS if d in line), separator)
            words = line.rsplit(found, len(fields) - 1)
        if len(words) != len(fields):
            wanted = ', '.join(field.name for field in fields)
            yield place, {}, f'{place}: must hold {wanted}, got {show(line)}'
            continue
        named = {field.name: word.strip() for field, word in zip(fields, words)}
        values, bad = read(named)
        yield place, values, f'{place}: {bad[0][1]}' if bad else ''


class _Lines:
    """Entries by name, filled from several files of lines."""

    def __init__(self, folder: Path, table: dict, separator: str | None, name: str) -> None:
        self.folder, self.table, self.separator, self.name = folder, table, separator, name
        self.entries: dict[Any, Entry] = {}
        self.left_out: set = set()  # by the choice of a split
        self.rest: list[tuple[str, str]] = []

    def rows(self, file: str) -> Iterator[dict]:
        """Return the good lines of a file; the faults of the others go to their entries."""
        for place, values, fault in _rows(self.folder / file, self.table, self.separator):
            key = values.get(self.name)
            if fault and key in self.entries:
                self.entries[key].faults.append(fault)
            elif fault:
                self.rest.append((str(key or place.rpartition(': ')[2]), fault))
            else:
                yield dict(values, place=place)

    def matching(self, file: str, list_file: str) -> Iterator[tuple[Entry, dict]]:
        """Return the good lines of a file with their entries."""
        for values in self.rows(file):
            key = values[self.name]
            if key in self.entries:
                yield self.entries[key], values
            elif key not in self.left_out:
                text = f'{values["place"]}: {self.name} {key} is not in {list_file}'
                self.rest.append((str(key), text))

    def set_label(self, entry: Entry, label: int, place: str) -> None:
        """Give an entry its class, once."""
        if entry.names and entry.names != [label]:
            entry.faults.append(f'{place}: a second label of {entry.key}: {label}')
        entry.names = [label]

    def source(self, file: str, classes: tuple = ()) -> Source:
        """All entries; one without a label is a fault."""
        for entry in self.entries.values():
            if not entry.names and not entry.faults:
                entry.faults.append(f'{self.folder / file}: has no label of {entry.key}')
        entries = list(self.entries.values())
        return Source(entries, classes, None, False, 'stored', tuple(self.rest))


def wsol_entries(path: Path) -> Source:
    """Return the entries of wsolevaluation's metadata folder (one split).

    Raises:
        OSError: A file cannot be read.
        ValueError: A file is missing or is not UTF-8.
    """
    lines = _Lines(Path(path), WSOL, ',', 'image')
    for values in lines.rows('image_ids.txt'):
        lines.entries.setdefault(values['image'], Entry(values['image']))
    for entry, values in lines.matching('class_labels.txt', 'image_ids.txt'):
        lines.set_label(entry, values['label'], values['place'])
    if (lines.folder / 'image_sizes.txt').exists():
        for entry, values in lines.matching('image_sizes.txt', 'image_ids.txt'):
            entry.size = (values['height'], values['width'])
    for entry, values in lines.matching('localization.txt', 'image_ids.txt'):
        entry.boxes.append(tuple(values[name] for name in ('x0', 'y0', 'x1', 'y1')))
    return lines.source('class_labels.txt')


def cub_entries(path: Path, split: str = 'test') -> Source:
    """Return the entries of CUB-200-2011; its ``test`` images, unless another split is asked for.

    Raises:
        OSError: A file cannot be read.
        ValueError: A file is missing or is not UTF-8.
    """
    lines = _Lines(Path(path), CUB, None, 'id')
    for values in lines.rows('images.txt'):
        lines.entries[values['id']] = Entry(values['image'])
    names = {values['id']: values['name'] for values in lines.rows('classes.txt')}
    if sorted(names) != list(range(1, len(names) + 1)):
        raise ValueError(
            f'{lines.folder / "classes.txt"} must number the classes from 1 to {len(names)}, '
            f'got {show(sorted(names))}'
        )
    classes = tuple(names[number] for number in sorted(names))
    if split != 'all' and (lines.folder / 'train_test_split.txt').exists():
        flag = int(split == 'train')
        for values in lines.rows('train_test_split.txt'):
            if values['train'] != flag and lines.entries.pop(values['id'], None):
                lines.left_out.add(values['id'])
    for entry, values in lines.matching('image_class_labels.txt', 'images.txt'):
        number = values['class']
        if number > len(classes):
            text = f'class {number} is not in classes.txt, which has {len(classes)}'
            entry.faults.append(f'{values["place"]}: {text}')
        lines.set_label(entry, number - 1, values['place'])
    for entry, values in lines.matching('bounding_boxes.txt', 'images.txt'):
        x, y, w, h = (values[name] for name in ('x', 'y', 'width', 'height'))
        entry.boxes.append((x, y, x + w, y + h))
    return lines.source('image_class_labels.txt', classes)


# ------------------------------------------------------------------------------------ own JSON


def boxes_entries(path: Path) -> Source:
    """Return the entries of a JSON list of ``{file, label, boxes}``.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is not a JSON list.
    """
    content = read_json(path)
    if not isinstance(content, list):
        raise ValueError(f'{path} must hold a list of entries, got {show(content)}')
    entries, rest = [], []
    read = EntryReader(BOXES['entries'], _READERS)
    for index, item in enumerate(content):
        values, bad = read(item)
        faults = [f'{path}: entry {index}: {text}' for _, text in bad]
        if 'file' not in values:
            rest += [(f'entry {index}', text) for text in faults]
            continue
        entry = Entry(values['file'], faults=faults)
        if not faults:
            entry.names, entry.boxes = [values['label']], values['boxes']
            if 'width' in values and 'height' in values:
                entry.size = (values['height'], values['width'])
        entries.append(entry)
    return Source(entries, faults=tuple(rest))
