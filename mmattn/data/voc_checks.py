"""A VOC data set before a run, as mmdet's XMLDataset and VOCDataset read it."""

import os
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mmattn.core.names import closest, shorten
from mmattn.core.text import read_lines
from mmattn.data.layout import Layout
from mmattn.data.voc import VocFile, read_voc

__all__ = ['VocLayout']


class VocLayout(Layout):
    """VOC's layout: a list of names, and an XML file and an image for each."""

    names_rule = "mmdet's VOC reader opens NAME.jpg only: rename or convert the files"

    def __init__(
        self, dataset: Any, dataset_cfg: Mapping, where: str, readers: Iterable[str] = ()
    ) -> None:
        super().__init__(dataset, dataset_cfg, where, readers)
        try:
            self.names = read_lines(self.ann_file)
        except ValueError as error:
            raise ValueError(f'{where}: {error}') from error
        self.root = dataset.sub_data_root
        self.files: list[VocFile] = []

    def paths(self) -> list[str]:
        folder = os.path.join(self.root, self.dataset.img_subdir)
        return [os.path.join(folder, f'{name}.jpg') for name in self.names]

    def sizes(self) -> list[tuple[str, str, tuple[int, int] | None]]:
        return [(file.path, path, file.size) for path, file in zip(self.paths(), self.files)]

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
        self.note_left_out(len(self.names), 0, 0)
        self._check_list()
        self.files = [self._read(name) for name in self.names]
        self.refuse(fault for file in self.files for fault in file.faults)
        boxes = [
            (f'object {number} of {file.path}', item.name, [int(v) for v in item.corners])
            for file in self.files
            for number, item in enumerate(file.objects, 1)
        ]
        notes = self._check_names(boxes)
        notes += self._left_out()
        notes += self._check_boxes(boxes)
        return notes + self.check_images()

    def _check_list(self) -> None:
        if Path(self.ann_file).read_bytes().startswith(BOM_UTF8):
            raise ValueError(
                f'{self.where}: {self.ann_file} starts with a byte order mark, which mmdet takes '
                'for a part of the first name: save it as UTF-8 without BOM'
            )
        for line, name in enumerate(self.names, 1):
            if not name or name != name.strip() or len(name.split()) > 1:
                raise ValueError(
                    f'{self.where}: line {line} of {self.ann_file} must be one image name '
                    f'without its suffix, got {name!r}'
                )
        twice = [name for name, count in Counter(self.names).items() if count > 1]
        if twice:
            raise ValueError(f'{self.where}: {self.ann_file} lists {shorten(twice)} twice')

    def _read(self, name: str) -> VocFile:
        path = os.path.join(self.root, self.dataset.ann_subdir, f'{name}.xml')
        try:
            return read_voc(path, self.readers)
        except OSError as error:
            raise FileNotFoundError(
                f'{self.where}: the annotation file {path} cannot be read ({error.strerror}); set '
                'data_root and data_prefix.sub_data_root of this data set to where the folder lies'
            ) from error
        except ValueError as error:
            raise ValueError(f'{self.where}: {error}') from error

    def _left_out(self) -> list[str]:
        """Count what mmdet's ``filter_data`` drops."""
        empty = small = 0
        for file in self.files:
            useful = any(item.name in self.classes for item in file.objects)
            if self.filter_cfg.get('filter_empty_gt', False) and not useful:
                empty += 1
            elif file.size and min(file.size) < self.filter_cfg.get('min_size', 0):
                small += 1
        return self.note_left_out(len(self.files), empty, small)

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

    def _check_boxes(self, boxes: list) -> list[str]:
        """Find boxes without width or height; int() and the comparison are mmdet's."""
        flat = [
            (place, label, box)
            for place, label, box in boxes
            if label in self.classes and (box[2] <= box[0] or box[3] <= box[1])
        ]
        handled = self.filters_boxes or self.filter_cfg.get('bbox_min_size', 0) >= 1
        if not flat or (handled and not self.dataset.test_mode):
            return []
        place, label, box = flat[0]
        said = (
            f'{self.where}: {len(flat)} of {len(boxes)} boxes have no width or no height, such as '
            f'{label} {box} in {place}'
        )
        if self.dataset.test_mode:
            return [f'{said}; each counts as one object that was not found']
        raise ValueError(
            f'{said}; leave them out with filter_cfg=dict(bbox_min_size=1), for example '
            f'--cfg-options {self.where}.filter_cfg.bbox_min_size=1, or correct the file'
        )
