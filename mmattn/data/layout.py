"""What the layouts of detection data sets share: their images, and what is left of them."""

import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from mmattn.core.names import shorten
from mmattn.data.decode import broken_image_sentence, decode_problem, looks_whole
from mmattn.data.fields import LOADER, MASKS, Fault
from mmattn.data.folders import Names, missing_files
from mmattn.data.sizes import LARGEST, ImageSize, loaded_size, measure, show_size

__all__ = ['Layout']

_MAX_DECODED = 1000  # beyond it, images spread evenly over the data set
_MAX_MEASURED = 10_000
_FEW = 0.01  # share of images of another size up to which a run is not refused


class Layout:
    """A data set as its layout's class in mmdet reads it.

    Args:
        dataset: The data set, nothing read yet.
        dataset_cfg: Its config.
        where: Its place in the config.
        readers: Who else reads its annotation file; see :mod:`mmattn.data.fields`.
    """

    names_rule = 'write the names in {ann_file} as the files have them'

    def __init__(
        self,
        dataset: Any,
        dataset_cfg: Mapping,
        where: str,
        readers: Iterable[str] = (),
    ) -> None:
        self.dataset = dataset
        self.where = where
        self.ann_file = dataset.ann_file
        self.filter_cfg = {} if dataset.test_mode else (dataset.filter_cfg or {})
        self.classes = list(dataset.metainfo.get('classes') or [])
        self.steps = [step for step in dataset_cfg.get('pipeline') or [] if 'type' in step]
        self.filters_boxes = self.step('FilterAnnotations') is not None
        self.readers = {LOADER, *readers}
        if (self.step('LoadAnnotations') or {}).get('with_mask'):
            self.readers.add(MASKS)

    def step(self, name: str) -> Mapping | None:
        """Return the config of the pipeline's step of a type."""
        return next((s for s in self.steps if str(s['type']).endswith(name)), None)

    def paths(self) -> list[str]:
        """Return every image."""
        raise NotImplementedError

    def sizes(self) -> list[tuple[str, str, tuple[int, int] | None]]:
        """Return every image with its annotation file and the ``(height, width)`` that it says."""
        raise NotImplementedError

    def image_ids(self) -> set:
        """Return the ids under which an evaluator looks up the images, where it does."""
        return set()

    def check(self) -> list[str]:
        """Check everything; what does not end the run comes back as notes."""
        raise NotImplementedError

    def refuse(self, faults: Iterable[Fault]) -> None:
        """Raise for the first fault, and say how many more there are of its kind."""
        faults = list(faults)
        if faults:
            first = faults[0]
            group = first.entry.split('[')[0].split(' ')[0]
            same = sum(
                f.field == first.field and f.entry.split('[')[0].split(' ')[0] == group
                for f in faults
            )
            more = f' ({same} such entries)' if same > 1 else ''
            raise ValueError(f'{self.where}: {first}{more}')

    def note_left_out(self, total: int, empty: int, small: int) -> list[str]:
        """Say how many images ``filter_cfg`` leaves out and why; none left ends the run."""
        if total == 0:
            raise ValueError(f'{self.where}: {self.ann_file} lists no image, the set is empty')
        reasons = []
        if empty:
            reasons.append(f'{empty} without a box of the classes {shorten(self.classes)}')
        if small:
            least = self.filter_cfg.get('min_size')
            reasons.append(f'{small} with a side under min_size={least}')
        if not reasons:
            return []
        left_out = f'filter_cfg={dict(self.filter_cfg)} leaves out {" and ".join(reasons)}'
        if empty + small == total:
            raise ValueError(
                f'{self.where}: none of the {total} images of {self.ann_file} is left: {left_out}'
            )
        return [f'{self.where}: {left_out} of the {total} images of {self.ann_file}']

    def check_images(self) -> list[str]:
        """Every image is there and of its size; the beginning and the end of many are whole."""
        paths = self.paths()
        self._refuse_missing(paths)
        for path in paths[:: max(len(paths) // _MAX_DECODED, 1)]:
            if not looks_whole(path):
                problem = decode_problem(path)
                if problem:
                    raise ValueError(f'{self.where}: {broken_image_sentence(path, problem)}')
        return self._check_sizes()

    def _refuse_missing(self, paths: list[str]) -> None:
        missing = missing_files(paths)
        if not missing:
            return
        folder, name = os.path.split(missing[0])
        said = (
            f'{self.where}: {len(missing)} of the {len(paths)} images of {self.ann_file} are '
            f'missing: {name} is '
        )
        if not os.path.isdir(folder or '.'):
            said += f'not there, nor is its folder {folder}'
        else:
            said += f'not in {folder}'
            names = Names(os.listdir(folder or '.'))
            if twin := names.twin(name):
                rule = self.names_rule.format(ann_file=self.ann_file)
                raise FileNotFoundError(f'{said}, which has {twin}: {rule}')
            near = names.nearest(name)
            said += f' (the nearest there is {near})' if near else ''
        raise FileNotFoundError(
            f'{said}; set data_root and data_prefix of this data set to where the images lie'
        )

    def _check_sizes(self) -> list[str]:
        """Compare the annotated sizes with those the pipeline loads."""
        listed = self.sizes()
        loading = self.step('LoadImageFromFile')
        if self.steps and loading is None:
            return []
        looked_at, other, large = 0, [], []
        listed = listed[:: max(len(listed) // _MAX_MEASURED, 1)]
        with ThreadPoolExecutor(8) as pool:  # disks are slow
            sizes = list(pool.map(measure, [path for _, path, _ in listed]))
        for (ann_file, path, annotated), size in zip(listed, sizes):
            if size is None:
                continue
            looked_at += 1
            if size.stored[0] * size.stored[1] > LARGEST:
                large.append((path, size))
            elif annotated is not None:
                loaded = loaded_size(path, size, loading)
                if loaded not in (None, annotated):
                    other.append((ann_file, path, annotated, size, loaded))
        notes = self._note_large(large)
        if not other:
            return notes
        said = f'{self.where}: {self._other_size(*other[0])}'
        if looked_at > 1:
            said += f' ({len(other)} of {looked_at} images disagree so)'
        said += '; its boxes would miss their objects'
        if len(other) <= _FEW * looked_at:
            return [*notes, said]
        raise ValueError(
            f'{said}: write the sizes and boxes of the files that are there, or use the files '
            'that the boxes were drawn on'
        )

    def _other_size(
        self, ann_file: str, path: str, annotated: tuple, size: ImageSize, loaded: tuple
    ) -> str:
        text = f'{ann_file} says {show_size(annotated)} of {path}, which is {size}'
        if size.orientation is None or loaded != size.upright:
            text += f', and the pipeline loads {show_size(loaded)}'
        return text

    def _note_large(self, large: list[tuple[str, ImageSize]]) -> list[str]:
        if not large:
            return []
        path, size = large[0]
        return [
            f'{self.where}: {len(large)} images have over {LARGEST} pixels and take as much '
            f'memory when they are loaded, such as {path} ({size})'
        ]
