"""COCO's layout."""

import os
from collections import Counter
from collections.abc import Mapping

from mmattn.core.names import closest, shorten
from mmattn.core.text import read_json
from mmattn.data.layout import Layout

__all__ = ['CocoLayout']


class CocoLayout(Layout):
    """COCO's layout, as mmdet's CocoDataset reads it."""

    def __init__(self, dataset, dataset_cfg, where: str) -> None:
        super().__init__(dataset, dataset_cfg, where)
        self.content = self._read()

    def _read(self) -> dict:
        try:
            content = read_json(self.ann_file)
        except ValueError as error:
            raise ValueError(f'{self.where}: {error}') from error
        for key in ('images', 'annotations', 'categories'):
            if not isinstance(content, dict) or not isinstance(content.get(key), list):
                near = closest(key, content, 1) if content else []
                hint = f' (it has {near[0]!r})' if near else ''
                raise ValueError(
                    f'{self.where}: {self.ann_file} must hold a list {key!r} as COCO does{hint}'
                )
        return content

    def pictures(self) -> list[str]:
        root = self.dataset.data_prefix.get('img', '')
        return [os.path.join(root, image['file_name']) for image in self.content['images']]

    def check(self) -> list[str]:
        self._check_fields()
        self._check_categories()
        self.refuse_empty(self._kept(), len(self.content['images']))
        self.check_pictures()
        return self._boxes_note()

    def _check_fields(self) -> None:
        needed = dict(
            images=('id', 'file_name', 'width', 'height'),
            annotations=('id', 'image_id', 'category_id', 'bbox', 'area'),
            categories=('id', 'name'),
        )
        for group, names in needed.items():
            for i, entry in enumerate(self.content[group]):
                for name in names:
                    if name not in entry:
                        near = closest(name, entry, 1)
                        hint = f'; it has {near[0]!r}' if near else ''
                        raise ValueError(
                            f'{self.where}: {self.ann_file}: {group}[{i}] has no {name!r}{hint}'
                        )
            ids = Counter(entry['id'] for entry in self.content[group])
            twice = [str(i) for i, count in ids.items() if count > 1]
            if twice:
                raise ValueError(
                    f'{self.where}: {self.ann_file}: ids of {group} must differ, these occur more '
                    f'than once: {shorten(twice)}'
                )

    def _check_categories(self) -> None:
        names = [category['name'] for category in self.content['categories']]
        absent = [name for name in self.classes if name not in names]
        if absent:
            raise ValueError(
                f'{self.where}: the classes {shorten(absent)} are not among the categories of '
                f'{self.ann_file}, which are {shorten(names, 20)}; set '
                'metainfo=dict(classes=(...)) of this data set to names from the file'
            )
        in_file_order = [name for name in names if name in self.classes]
        if in_file_order != self.classes:
            raise ValueError(
                f'{self.where}: mmdet numbers the classes in the order of {self.ann_file}, so the '
                f'names would be exchanged; write them in that order: {tuple(in_file_order)}'
            )
        known = {category['id'] for category in self.content['categories']}
        wrong = Counter(
            a['category_id'] for a in self.content['annotations'] if a['category_id'] not in known
        )
        if wrong:
            raise ValueError(
                f'{self.where}: {self.ann_file}: {sum(wrong.values())} boxes have a category_id '
                f'that no category has: {shorten(map(str, sorted(wrong)))}; the categories have '
                f'the ids {shorten(map(str, sorted(known)), 12)}'
            )

    def _kept(self) -> int:
        images = self.content['images']
        if self.filter_cfg.get('filter_empty_gt', False):
            used = {c['id'] for c in self.content['categories'] if c['name'] in self.classes}
            sizes = {image['id']: (image['width'], image['height']) for image in images}
            full = {
                a['image_id']
                for a in self.content['annotations']
                if a['category_id'] in used
                and a['image_id'] in sizes
                and not _is_dropped(a, *sizes[a['image_id']])
            }
            images = [image for image in images if image['id'] in full]
        smallest = self.filter_cfg.get('min_size', 0)
        return sum(min(image['width'], image['height']) >= smallest for image in images)

    def _boxes_note(self) -> list[str]:
        sizes = {
            image['id']: (image['width'], image['height']) for image in self.content['images']
        }
        names = {image['id']: image['file_name'] for image in self.content['images']}
        strangers = [a for a in self.content['annotations'] if a['image_id'] not in sizes]
        dropped = [
            a
            for a in self.content['annotations']
            if a['image_id'] in sizes and _is_dropped(a, *sizes[a['image_id']])
        ]
        notes = []
        if strangers:
            notes.append(
                f'{self.where}: {self.ann_file}: {len(strangers)} boxes belong to pictures that '
                f'are not listed, such as image_id {strangers[0]["image_id"]}; they are not used'
            )
        if dropped:
            first = dropped[0]
            notes.append(
                f'{self.where}: {self.ann_file}: {len(dropped)} boxes are under one pixel or '
                f'outside their picture and are not used, such as {first["bbox"]} (annotation id '
                f'{first["id"]}) in {names[first["image_id"]]}'
            )
        return notes


def _is_dropped(annotation: Mapping, width: int, height: int) -> bool:
    """Whether mmdet's CocoDataset leaves this box out."""
    x, y, w, h = annotation['bbox']
    inside = min(x + w, width) > max(x, 0) and min(y + h, height) > max(y, 0)
    return w < 1 or h < 1 or annotation['area'] <= 0 or not inside
