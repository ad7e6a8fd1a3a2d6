"""Look at the configured data before a run, and say in one sentence what is wrong.

The host's own answers to bad data are an assertion without the file, an infinite loss, labels
that are silently dropped, or nothing. Here each finding names the file and the way out. A finding
that makes the run meaningless raises; one that a person should know of comes back as text.
"""

import inspect
import os
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from mmengine.registry import DATASETS, DefaultScope

from mmattn.core.names import closest, did_you_mean, shorten
from mmattn.core.text import read_json, read_lines

__all__ = ['check_data', 'find_broken_pictures', 'picture_paths']

_MAX_PICTURES_READ = 1000  # beyond it, pictures spread evenly over the data set
_CORNERS = ('xmin', 'ymin', 'xmax', 'ymax')


def check_data(cfg, splits=('train', 'val')) -> list[str]:
    """Check the data sets of a config.

    Args:
        cfg (mmengine.Config): The whole config.
        splits: Which of ``train``, ``val`` and ``test`` to look at.

    Returns:
        list[str]: What a person should know but what does not stop a run.

    Raises:
        FileNotFoundError: An annotation file, a picture folder or pictures are missing.
        ValueError: Anything else that makes a run meaningless; the text names file and remedy.
    """
    notes = []
    for split in splits:
        loader = cfg.get(f'{split}_dataloader')
        if loader is None:
            continue
        for where, dataset_cfg in _leaves(loader.get('dataset'), f'{split}_dataloader.dataset'):
            dataset = _open(dataset_cfg, where, cfg.get('default_scope') or 'mmengine')
            if dataset is not None:
                notes += _check_dataset(dataset, dataset_cfg, where)
                notes += _check_num_classes(cfg, dataset, where)
        if split != 'train':
            notes += _check_evaluator(cfg, split)
    return list(dict.fromkeys(notes))


def picture_paths(cfg, splits=('train', 'val')) -> list[str]:
    """Every picture of the configured data sets that lies in a local file."""
    paths = []
    for split in splits:
        loader = cfg.get(f'{split}_dataloader') or {}
        for where, dataset_cfg in _leaves(loader.get('dataset'), split):
            dataset = _open(dataset_cfg, where, cfg.get('default_scope') or 'mmengine')
            reader = _reader(dataset)
            if reader is not None and _is_local(dataset):
                paths += reader(dataset, dataset_cfg, where).pictures()
    return list(dict.fromkeys(paths))


def find_broken_pictures(paths) -> dict[str, str]:
    """Decode every picture; slow and thorough.

    Args:
        paths (Iterable[str]): Picture files.

    Returns:
        dict[str, str]: The files that cannot be decoded, and why.
    """
    broken = {path: _decode_problem(path) for path in paths}
    return {path: problem for path, problem in broken.items() if problem}


# ---------------------------------------------------------------------------- from the config


def _leaves(dataset_cfg, where: str) -> Iterator[tuple[str, Mapping]]:
    """Walk through wrappers (RepeatDataset, ConcatDataset, ...) down to the data sets."""
    if not isinstance(dataset_cfg, Mapping):
        return
    if isinstance(dataset_cfg.get('dataset'), Mapping):
        yield from _leaves(dataset_cfg['dataset'], f'{where}.dataset')
    elif isinstance(dataset_cfg.get('datasets'), list | tuple):
        for i, child in enumerate(dataset_cfg['datasets']):
            yield from _leaves(child, f'{where}.datasets.{i}')
    else:
        yield where, dataset_cfg


def _open(dataset_cfg: Mapping, where: str, scope: str):
    """Build the data set without reading anything; None if it is not local and mmdet's."""
    try:
        from mmdet.datasets import BaseDetDataset
    except ImportError:
        return None
    if any('://' in str(dataset_cfg.get(key)) for key in ('data_root', 'ann_file')):
        return None
    if DefaultScope.get_current_instance() is None:
        DefaultScope.get_instance('mmattn', scope_name=scope)
    kind = dataset_cfg.get('type')
    with DATASETS.switch_scope_and_registry(scope) as registry:
        cls = registry.get(kind) if isinstance(kind, str) else kind
    if not (inspect.isclass(cls) and issubclass(cls, BaseDetDataset)):
        return None
    options = {k: v for k, v in dataset_cfg.items() if k not in ('type', '_scope_', 'pipeline')}
    _check_names(cls, options, where)
    return cls(**{**options, 'lazy_init': True})


def _check_names(cls: type, options: Mapping, where: str) -> None:
    """Refuse a misspelt option with the nearest valid one."""
    known = set()
    for base in cls.__mro__:
        if '__init__' in vars(base):
            known |= set(inspect.signature(base.__init__).parameters)
    for name in options:
        if name not in known:
            hint = did_you_mean(name, known)
            raise ValueError(f'{where}: {cls.__name__} has no option {name!r}{hint}')


def _is_local(dataset) -> bool:
    return (dataset.backend_args or {}).get('backend', 'local') in ('local', 'disk')


def _reader(dataset):
    """The class below that reads what this data set reads; None for a layout unknown here."""
    from mmdet.datasets import CocoDataset, XMLDataset

    if dataset is None:
        return None
    load = type(dataset).load_data_list
    if load is CocoDataset.load_data_list:
        return _Coco
    return _Xml if load is XMLDataset.load_data_list else None


def _check_dataset(dataset, dataset_cfg, where: str) -> list[str]:
    if not _is_local(dataset):
        return []
    if dataset.ann_file and not Path(dataset.ann_file).is_file():
        raise FileNotFoundError(
            f'{where}: the annotation file {dataset.ann_file} does not exist; '
            'set data_root and ann_file of this data set to where it lies (relative paths start '
            f'at {Path.cwd()})'
        )
    reader = _reader(dataset)
    return reader(dataset, dataset_cfg, where).check() if reader else []


def _check_num_classes(cfg, dataset, where: str) -> list[str]:
    """Compare the classes of the data with those of the box head."""
    model = cfg.get('model') or {}
    model = model.get('model', model)  # a wrapper's own entry is the model inside
    heads = (model.get('roi_head') or {}).get('bbox_head') or model.get('bbox_head') or {}
    classes = dataset.metainfo.get('classes')
    for head in heads if isinstance(heads, list | tuple) else [heads]:
        number = head.get('num_classes')
        if not isinstance(number, int) or not isinstance(classes, list | tuple):
            continue
        said = f'{where} has {len(classes)} classes, the model num_classes={number}'
        if number < len(classes):
            raise ValueError(f'{said}: set num_classes of every box head to {len(classes)}')
        if number > len(classes):
            return [f'{said}: {number - len(classes)} outputs can never be right']
    return []


def _check_evaluator(cfg, split: str) -> list[str]:
    """The evaluator names its annotation file on its own; find one that was forgotten."""
    evaluators = cfg.get(f'{split}_evaluator') or []
    notes = []
    for evaluator in evaluators if isinstance(evaluators, list | tuple) else [evaluators]:
        ann_file = evaluator.get('ann_file') if isinstance(evaluator, Mapping) else None
        if not isinstance(ann_file, str) or '://' in ann_file:
            continue
        data = cfg.get(f'{split}_dataloader', {}).get('dataset', {})
        own = os.path.join(data.get('data_root') or '', data.get('ann_file') or '')
        if not Path(ann_file).is_file():
            raise FileNotFoundError(
                f'{split}_evaluator.ann_file: {ann_file} does not exist; the data set reads '
                f'{own}: give the evaluator the same, --cfg-options '
                f'{split}_evaluator.ann_file={own}'
            )
        if data.get('ann_file') and os.path.abspath(own) != os.path.abspath(ann_file):
            notes.append(
                f'{split}: pictures come from {own}, but are judged by {ann_file} '
                f'({split}_evaluator.ann_file)'
            )
    return notes


# ------------------------------------------------------------------------------- the two layouts


class _Layout:
    """What both layouts share; ``where`` is the data set's place in the config."""

    def __init__(self, dataset, dataset_cfg, where: str) -> None:
        self.dataset = dataset
        self.where = where
        self.ann_file = dataset.ann_file
        self.filter_cfg = {} if dataset.test_mode else (dataset.filter_cfg or {})
        self.classes = list(dataset.metainfo.get('classes') or [])
        steps = dataset_cfg.get('pipeline') or []
        self.filters_boxes = any('FilterAnnotations' in str(step.get('type')) for step in steps)

    def refuse_empty(self, kept: int, total: int) -> None:
        if total == 0:
            raise ValueError(f'{self.where}: {self.ann_file} lists no picture, the set is empty')
        if kept == 0:
            raise ValueError(
                f'{self.where}: none of the {total} pictures of {self.ann_file} is left after '
                f'filter_cfg={dict(self.filter_cfg)}: they hold no box of the classes '
                f'{shorten(self.classes)}, or are smaller than min_size'
            )

    def check_pictures(self) -> None:
        """Every picture is there; the beginning and the end of many are whole."""
        paths = self.pictures()
        missing = _missing(paths)
        if missing:
            folder = os.path.dirname(missing[0])
            what = 'is not in' if os.path.isdir(folder) else 'is not there, nor is its folder'
            raise FileNotFoundError(
                f'{self.where}: {len(missing)} of {len(paths)} pictures are missing: '
                f'{os.path.basename(missing[0])} {what} {folder}; set data_root and data_prefix '
                'of this data set to where the pictures lie'
            )
        step = max(len(paths) // _MAX_PICTURES_READ, 1)
        for path in paths[::step]:
            if not _looks_whole(path):
                problem = _decode_problem(path)
                if problem:
                    raise ValueError(broken_picture_sentence(path, problem))


class _Coco(_Layout):
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


class _Xml(_Layout):
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


# -------------------------------------------------------------------------------------- pictures


def broken_picture_sentence(path: str, problem: str) -> str:
    """The one sentence for a picture that cannot be used."""
    return (
        f'the picture {path} cannot be used: {problem}; replace the file, or take it out of the '
        'annotations'
    )


def _missing(paths: list[str]) -> list[str]:
    """Paths that do not exist; one listing a folder instead of one look a file."""
    listings: dict[str, set] = {}
    missing = []
    for path in paths:
        folder, name = os.path.split(path)
        if folder not in listings:
            try:
                listings[folder] = set(os.listdir(folder or '.'))
            except OSError:
                listings[folder] = set()
        if name not in listings[folder]:
            missing.append(path)
    return missing


def _looks_whole(path: str) -> bool:
    """Whether the first and last bytes are those of a whole JPEG or PNG; cheap."""
    try:
        with open(path, 'rb') as file:
            start = file.read(8)
            file.seek(max(os.path.getsize(path) - 16, 0))
            end = file.read()
    except OSError:
        return False
    jpeg = start.startswith(b'\xff\xd8') and end.rstrip(b'\0').endswith(b'\xff\xd9')
    return jpeg or (start == b'\x89PNG\r\n\x1a\n' and b'IEND' in end)


def _decode_problem(path: str) -> str:
    """Decode a picture fully; an empty string if nothing is wrong."""
    import cv2
    import numpy as np
    from PIL import Image

    try:
        content = Path(path).read_bytes()
    except OSError as error:
        return f'it cannot be read ({error.strerror})'
    if not content:
        return 'the file is empty'
    try:
        with Image.open(path) as picture:
            picture.load()
    except Image.UnidentifiedImageError:
        pass  # OpenCV knows more formats
    except (OSError, SyntaxError, ValueError) as error:
        return f'it is damaged ({error})'
    if cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) is None:
        return 'it is no picture that can be decoded'
    return ''
