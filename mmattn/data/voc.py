"""VOC's layout."""

import os
import xml.etree.ElementTree as ElementTree
from collections import Counter

from mmattn.core.names import closest, shorten
from mmattn.core.text import read_lines
from mmattn.data.layout import Layout

__all__ = ['VocLayout']

_CORNERS = ('xmin', 'ymin', 'xmax', 'ymax')


class VocLayout(Layout):
    """VOC's layout, as mmdet's XMLDataset and VOCDataset read it."""

    def __init__(self, dataset, dataset_cfg, where: str) -> None:
        super().__init__(dataset, dataset_cfg, where)
        self.names = read_lines(self.ann_file)
        self.root = dataset.sub_data_root

    def pictures(self) -> list[str]:
        return [
            os.path.join(self.root, self.dataset.img_subdir, f'{name}.jpg') for name in self.names
        ]

    def check(self) -> list[str]:
        if self.dataset.test_mode and (self.dataset.filter_cfg or {}).get('bbox_min_size'):
            raise ValueError(
                f'{self.where}: filter_cfg.bbox_min_size is for training only, mmdet refuses it '
                'with test_mode=True: remove it'
            )
        if not self.classes:
            raise ValueError(
                f'{self.where}: {type(self.dataset).__name__} needs metainfo=dict(classes=(...))'
            )
        self.refuse_empty(1, len(self.names))
        self._check_list()
        boxes, kept = self._read_all()
        self.refuse_empty(kept, len(self.names))
        notes = self._check_names(boxes)
        notes += self._check_sizes(boxes)
        self.check_pictures()
        return notes

    def _check_list(self) -> None:
        for line, name in enumerate(self.names, 1):
            if not name or name != name.strip() or len(name.split()) > 1:
                raise ValueError(
                    f'{self.where}: line {line} of {self.ann_file} must be one picture name '
                    f'without its ending, got {name!r}'
                )
        twice = [name for name, count in Counter(self.names).items() if count > 1]
        if twice:
            raise ValueError(f'{self.where}: {self.ann_file} lists {shorten(twice)} twice')

    def _read_all(self) -> tuple[list, int]:
        """Read all boxes as ``(file, class name, corners)``, and count the pictures kept."""
        boxes, kept = [], 0
        for name in self.names:
            path = os.path.join(self.root, self.dataset.ann_subdir, f'{name}.xml')
            own, shortest = _read_xml(path, self.where)
            boxes += own
            useful = any(label in self.classes for _, label, _ in own)
            if useful or not self.filter_cfg.get('filter_empty_gt', False):
                kept += shortest is None or shortest >= self.filter_cfg.get('min_size', 0)
        return boxes, kept

    def _check_names(self, boxes: list) -> list[str]:
        found = Counter(label for _, label, _ in boxes)
        unknown = {label: n for label, n in found.items() if label not in self.classes}
        if not unknown:
            return []
        said = ', '.join(f'{label} ({n} boxes)' for label, n in list(unknown.items())[:12])
        for name in self.classes:
            near = closest(name, unknown, 1, sure=True)
            if name not in found and near:
                raise ValueError(
                    f'{self.where}: no box has the class {name!r}, but the files of '
                    f'{self.ann_file} have {said}: write {near[0]!r} in metainfo.classes'
                )
        if len(unknown) == len(found):
            raise ValueError(
                f'{self.where}: no box of the files of {self.ann_file} has one of the classes '
                f'{shorten(self.classes)}; the files have {said}; set metainfo=dict(classes=(...))'
            )
        return [f'{self.where}: boxes of other classes are not used: {said}']

    def _check_sizes(self, boxes: list) -> list[str]:
        """Find boxes without width or height; int() and the comparison are mmdet's."""
        flat = [
            (path, label, box)
            for path, label, box in boxes
            if label in self.classes and (box[2] <= box[0] or box[3] <= box[1])
        ]
        handled = self.filters_boxes or self.filter_cfg.get('bbox_min_size', 0) >= 1
        if not flat or (handled and not self.dataset.test_mode):
            return []
        path, label, box = flat[0]
        said = (
            f'{self.where}: {len(flat)} of {len(boxes)} boxes have no width or no height, such as '
            f'{label} {box} in {path}'
        )
        if self.dataset.test_mode:
            return [f'{said}; each counts as one object that was not found']
        raise ValueError(
            f'{said}; leave them out with filter_cfg=dict(bbox_min_size=1), for example '
            f'--cfg-options {self.where}.filter_cfg.bbox_min_size=1, or correct the file'
        )


def _read_xml(path: str, where: str) -> tuple[list, int | None]:
    """Read the boxes of one file and the shorter side of its picture, None if it is not said."""
    try:
        root = ElementTree.parse(path).getroot()
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f'{where}: the annotation file {path} does not exist; set data_root and '
            'data_prefix.sub_data_root of this data set to where the folder lies'
        ) from error
    except ElementTree.ParseError as error:
        raise ValueError(f'{where}: {path} is not XML: {error}') from error
    try:
        size = root.find('size')
        shortest = None
        if size is not None:
            shortest = min(int(size.find(side).text) for side in ('width', 'height'))
        boxes = []
        for entry in root.findall('object'):
            corners = entry.find('bndbox')
            box = [int(float(corners.find(name).text)) for name in _CORNERS]
            boxes.append((path, entry.find('name').text, box))
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(
            f'{where}: {path}: every object needs a name and a bndbox with the numbers '
            f'{", ".join(_CORNERS)}, and a size needs width and height ({error})'
        ) from error
    return boxes, shortest
