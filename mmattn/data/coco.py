"""COCO's JSON, read and checked once for the training and for localization."""

from codecs import BOM_UTF8
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmattn.core.names import closest, shorten
from mmattn.core.text import read_json
from mmattn.data.entries import Entry, Source
from mmattn.data.fields import COCO, LOCALIZATION, EntryReader, Fault
from mmattn.data.values import show

__all__ = ['Coco', 'as_coco_boxes', 'coco_entries', 'read_coco']


@dataclass(frozen=True)
class Coco:
    """A file in COCO's layout.

    Args:
        path: The file.
        images: As in the file.
        annotations: As in the file.
        categories: As in the file.
        faults: What cannot be used, ``{(group, place in it): faults}``.
    """

    path: str
    images: list
    annotations: list
    categories: list
    faults: dict[tuple[str, int], list[Fault]]


def read_coco(path: str, readers: Set[str], unlabeled: bool = False) -> Coco:
    """Read a COCO file and check every field that the readers look at.

    Args:
        path: The file.
        readers: Of :mod:`mmattn.data.fields`.
        unlabeled: Whether the file may have no ``annotations``, as COCO's test-dev.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is not JSON, or not COCO's lists.
    """
    if LOCALIZATION not in readers and _starts_with_bom(path):
        raise ValueError(
            f'{path} starts with a byte order mark, which mmdet cannot read: save it as UTF-8 '
            'without BOM'
        )
    content = read_json(path)
    if not isinstance(content, Mapping):
        raise ValueError(f'{path} must hold an object as COCO does, got {show(content)}')
    if unlabeled and 'annotations' not in content:
        content = dict(content, annotations=[])
    for group in COCO:
        if not isinstance(content.get(group), list):
            near = closest(group, content, 1)
            hint = f' (it has {near[0]!r})' if near and near[0] != group else ''
            raise ValueError(f'{path} must hold a list {group!r} as COCO does{hint}')
    groups = {group: content[group] for group in COCO}
    faults: dict[tuple[str, int], list[Fault]] = defaultdict(list)
    for group, index, field, text in _all_faults(groups, readers):
        faults[group, index].append(_fault(path, groups, group, index, field, text))
    return Coco(str(path), **groups, faults=dict(faults))


def _starts_with_bom(path: str) -> bool:
    with Path(path).open('rb') as file:
        return file.read(len(BOM_UTF8)) == BOM_UTF8


def _all_faults(groups: dict, readers: Set[str]) -> Iterator[tuple[str, int, str, str]]:
    known = {}
    for group, fields in COCO.items():
        read = EntryReader(fields, readers)
        ids: dict[Any, int] = {}
        for index, entry in enumerate(groups[group]):
            values, bad = read(entry)
            for field, text in bad:
                yield group, index, field, text
            number = values.get('id')
            first = index if number is None else ids.setdefault(number, index)
            if first != index:
                yield group, index, 'id', f'has the id {number} of {group}[{first}] too'
        known[group] = ids
    yield from _name_faults(groups['categories'])
    categories = known['categories']
    for index, entry in enumerate(groups['annotations']):
        number = entry.get('category_id') if isinstance(entry, Mapping) else None
        if isinstance(number, int | float) and number not in categories:
            have = shorten(map(str, sorted(categories)), 12)
            text = f'category_id {number} is of no category; the categories have the ids {have}'
            yield 'annotations', index, 'category_id', text


def _name_faults(categories: list) -> Iterator[tuple[str, int, str, str]]:
    names: dict[str, int] = {}
    for index, entry in enumerate(categories):
        name = entry.get('name') if isinstance(entry, Mapping) else None
        if isinstance(name, str):
            first = names.setdefault(name, index)
            if first != index:
                text = f'name {name!r} is the name of categories[{first}] too'
                yield 'categories', index, 'name', text


def _fault(path: str, groups: dict, group: str, index: int, field: str, text: str) -> Fault:
    entry = groups[group][index]
    number = entry.get('id') if isinstance(entry, Mapping) else None
    place = f'{group}[{index}]'
    if isinstance(number, int | str) and field != 'id':
        place += f' (id {number})'
    return Fault(str(path), place, field, text)


# -------------------------------------------------------------------------------- localization


def coco_entries(path: str) -> Source:
    """Return the entries of a COCO file; the label is the category's place in the order of the
    ids.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is not COCO's layout, or its categories cannot be used.
    """
    coco = read_coco(path, {LOCALIZATION})
    for (group, _), bad in coco.faults.items():
        if group == 'categories':
            raise ValueError(str(bad[0]))
    entries, rest = {}, []
    for index, image in enumerate(coco.images):
        bad = list(map(str, coco.faults.get(('images', index), ())))
        number, name = _get(image, 'id'), _get(image, 'file_name')
        if not isinstance(name, str) or not isinstance(number, int | float) or number in entries:
            rest += [(name if isinstance(name, str) else f'images[{index}]', text) for text in bad]
            continue
        sized = not bad and 'height' in image and 'width' in image
        size = (int(image['height']), int(image['width'])) if sized else None
        entries[number] = Entry(name, size=size, faults=bad)
    for index, item in enumerate(coco.annotations):
        bad = list(map(str, coco.faults.get(('annotations', index), ())))
        number = _get(item, 'image_id')
        entry = entries.get(number) if isinstance(number, int | float) else None
        if entry is None:
            if not bad:
                bad = [f'{path}: annotations[{index}]: image_id {number} is of no image']
            rest += [(f'annotations[{index}]', text) for text in bad]
        elif bad:
            entry.faults += bad
        elif item.get('iscrowd'):
            entry.crowd += 1
        else:
            x, y, w, h = item['bbox']
            entry.names.append(item['category_id'])
            entry.boxes.append((x, y, x + w, y + h))
    categories = sorted(coco.categories, key=lambda category: category['id'])
    return Source(
        list(entries.values()),
        tuple(category['name'] for category in categories),
        {category['id']: label for label, category in enumerate(categories)},
        faults=tuple(rest),
    )


def _get(entry: Any, name: str) -> Any:
    return entry.get(name) if isinstance(entry, Mapping) else None


def as_coco_boxes(instances: Iterable[tuple[int, Mapping]]) -> list[dict]:
    """Write the boxes of an mmdet data set as annotations of COCO's layout.

    Args:
        instances: ``(id of the image, instance)``, an instance with ``bbox`` (its corners),
            ``bbox_label`` and perhaps ``ignore_flag``.

    Returns:
        One annotation an instance, with ids from 1; labels are the category ids.
    """
    found = []
    for number, (image_id, one) in enumerate(instances, 1):
        x1, y1, x2, y2 = (float(edge) for edge in one['bbox'])
        found.append(
            dict(
                id=number,
                image_id=image_id,
                category_id=int(one['bbox_label']),
                bbox=[x1, y1, x2 - x1, y2 - y1],
                area=(x2 - x1) * (y2 - y1),
                iscrowd=int(one.get('ignore_flag', 0)),
            )
        )
    return found
