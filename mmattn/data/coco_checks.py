"""A COCO data set before a run, as mmdet's CocoDataset reads it."""

import os
from collections.abc import Iterable, Mapping
from typing import Any

from mmattn.core.names import shorten
from mmattn.data.coco import Coco, read_coco
from mmattn.data.fields import EVALUATOR, LOADER
from mmattn.data.layout import Layout

__all__ = ['CocoLayout', 'check_categories']


class CocoLayout(Layout):
    """COCO's layout."""

    def __init__(
        self, dataset: Any, dataset_cfg: Mapping, where: str, readers: Iterable[str] = ()
    ) -> None:
        super().__init__(dataset, dataset_cfg, where, readers)
        unlabeled = dataset.test_mode and self.readers == {LOADER}
        try:
            self.content = read_coco(self.ann_file, self.readers, unlabeled)
        except ValueError as error:
            raise ValueError(f'{where}: {error}') from error

    def paths(self) -> list[str]:
        root = self.dataset.data_prefix.get('img', '')
        return [os.path.join(root, image['file_name']) for image in self.content.images]

    def sizes(self) -> list[tuple[str, str, tuple[int, int] | None]]:
        return [
            (self.ann_file, path, (image['height'], image['width']))
            for path, image in zip(self.paths(), self.content.images)
        ]

    def image_ids(self) -> set:
        return {image['id'] for image in self.content.images}

    def check(self) -> list[str]:
        self.refuse(fault for faults in self.content.faults.values() for fault in faults)
        check_categories(self.content, self.classes, self.where)
        return self._left_out() + self._unused_boxes() + self.check_images()

    def _left_out(self) -> list[str]:
        """Count what mmdet's ``filter_data`` drops; it counts boxes that are not used, too."""
        images = self.content.images
        empty = set()
        if self.filter_cfg.get('filter_empty_gt', False):
            used = {c['id'] for c in self.content.categories if c['name'] in self.classes}
            full = {a['image_id'] for a in self.content.annotations if a['category_id'] in used}
            empty = {image['id'] for image in images if image['id'] not in full}
        least = self.filter_cfg.get('min_size', 0)
        small = sum(
            min(image['width'], image['height']) < least and image['id'] not in empty
            for image in images
        )
        return self.note_left_out(len(images), len(empty), small)

    def _unused_boxes(self) -> list[str]:
        """Say which boxes mmdet's CocoDataset leaves out, by reason."""
        images = {image['id']: image for image in self.content.images}
        reasons: dict[str, list] = {}
        for annotation in self.content.annotations:
            reason = _why_unused(annotation, images.get(annotation['image_id']))
            reasons.setdefault(reason, []).append(annotation)
        used = reasons.pop('', [])
        if reasons and not used and not self.dataset.test_mode:
            said = '; '.join(f'{len(boxes)} {reason}' for reason, boxes in reasons.items())
            raise ValueError(
                f'{self.where}: {self.ann_file}: mmdet leaves out all of its boxes: {said}'
            )
        return [self._note_unused(reason, boxes, images) for reason, boxes in reasons.items()]

    def _note_unused(self, reason: str, boxes: list, images: Mapping) -> str:
        first = boxes[0]
        image = images.get(first['image_id'], {}).get('file_name', f'image {first["image_id"]}')
        if not self.dataset.test_mode:
            then = 'their objects count as background'
        elif EVALUATOR in self.readers:
            then = 'the evaluation counts them all the same'
        else:
            then = 'they are not evaluated'
        return (
            f'{self.where}: {self.ann_file}: mmdet leaves out {len(boxes)} {reason}, such as '
            f'annotation id {first["id"]}, bbox {first["bbox"]}, area {first["area"]}, in '
            f'{image}; {then}'
        )


def _why_unused(annotation: Mapping, image: Mapping | None) -> str:
    """Why mmdet's CocoDataset leaves a box out; empty if it does not."""
    if image is None:
        return 'boxes of images that are not listed'
    x, y, w, h = annotation['bbox']
    width, height = image['width'], image['height']
    if w < 1 or h < 1:
        return 'boxes under one pixel'
    if min(x + w, width) <= max(x, 0) or min(y + h, height) <= max(y, 0):
        return 'boxes outside their image'
    if annotation['area'] <= 0:
        return 'boxes of area 0 (write width * height)'
    return ''


def check_categories(content: Coco, classes: list[str], where: str) -> None:
    """Refuse classes that the file lacks, or has in another order."""
    names = [category['name'] for category in content.categories]
    absent = [name for name in classes if name not in names]
    if absent:
        raise ValueError(
            f'{where}: the classes {shorten(absent)} are not among the categories of '
            f'{content.path}, which are {shorten(names, 20)}; set metainfo=dict(classes=(...)) of '
            'this data set to names from the file'
        )
    in_file_order = [name for name in names if name in classes]
    if in_file_order != classes:
        raise ValueError(
            f'{where}: mmdet numbers the classes in the order of {content.path}, so the names '
            f'would be exchanged; write them in that order: {tuple(in_file_order)}'
        )


def check_evaluated_file(path: str, where: str, readers: set[str], classes: list[str]) -> Coco:
    """Check a file that only the evaluator reads.

    Raises:
        ValueError: It cannot be read, or a field that the evaluator reads cannot be used.
    """
    try:
        content = read_coco(path, readers - {LOADER})
    except ValueError as error:
        raise ValueError(f'{where}: {error}') from error
    for faults in content.faults.values():
        raise ValueError(f'{where}: {faults[0]}')
    if classes:
        check_categories(content, classes, where)
    return content
