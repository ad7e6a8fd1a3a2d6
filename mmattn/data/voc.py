"""VOC's XML, which is ILSVRC's too, read and checked once for all who need it."""

import os
import xml.etree.ElementTree as ElementTree
from collections.abc import Set
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from mmattn.data.entries import Entry, Source
from mmattn.data.fields import LOCALIZATION, VOC, EntryReader, Fault

__all__ = ['VocFile', 'VocObject', 'ilsvrc_entries', 'read_voc']

CORNERS = tuple(part.name for part in VOC['bndbox'])


@dataclass(frozen=True)
class VocObject:
    """An object of a file: its class and ``(xmin, ymin, xmax, ymax)`` as written."""

    name: str
    corners: tuple[float, ...]


@dataclass(frozen=True)
class VocFile:
    """One XML file.

    Args:
        path: The file.
        size: ``(height, width)``, or None where the file does not say it.
        objects: The objects without fault.
        faults: What cannot be used.
    """

    path: str
    size: tuple[int, int] | None = None
    objects: list[VocObject] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)


def read_voc(path: str | os.PathLike, readers: Set[str]) -> VocFile:
    """Read an XML file and check every field that the readers look at.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is not XML.
    """
    try:
        root = ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, LookupError, ValueError) as error:  # the latter: encodings
        raise ValueError(f'{path} is not XML: {error}') from error
    objects, faults = [], []

    def read(element: ElementTree.Element, table: str, place: str) -> dict[str, Any]:
        texts: dict[str, str] = {}
        for child in element:
            texts.setdefault(child.tag, child.text or '')
        values, bad = _reader(table, frozenset(readers))(texts)
        faults.extend(Fault(str(path), place, name, text) for name, text in bad)
        return values

    size = root.find('size')
    sides = {} if size is None else read(size, 'size', 'size')
    for number, item in enumerate(root.findall('object'), 1):
        place, before = f'object {number}', len(faults)
        name = read(item, 'object', place).get('name')
        box = item.find('bndbox')
        if box is None:
            faults.append(Fault(str(path), place, 'bndbox', "has no 'bndbox'"))
            continue
        corners = read(box, 'bndbox', place)
        if len(faults) == before:
            objects.append(VocObject(name, tuple(corners[corner] for corner in CORNERS)))
    known = (sides['height'], sides['width']) if len(sides) == 2 else None
    return VocFile(str(path), known, objects, faults)


@lru_cache
def _reader(table: str, readers: frozenset[str]) -> EntryReader:
    return EntryReader(VOC[table], readers)


def ilsvrc_entries(path: str | os.PathLike) -> Source:
    """Return the entries of a folder of XML files, one an image, objects named by their wnid."""
    entries = []
    for file in sorted(Path(path).rglob('*.xml')):
        entry = Entry(file.stem)
        try:
            content = read_voc(file, {LOCALIZATION})
        except (OSError, ValueError) as error:
            entry.faults.append(str(error))
        else:
            entry.size = content.size
            entry.names = [item.name.strip() for item in content.objects]
            entry.boxes = [item.corners for item in content.objects]
            entry.faults = list(map(str, content.faults))
        entries.append(entry)
    return Source(entries, frame='stored')
