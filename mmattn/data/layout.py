"""What the layouts of detection data sets share."""

import os

from mmattn.core.names import shorten
from mmattn.data.images import broken_picture_sentence, decode_problem, looks_whole, missing_files

__all__ = ['Layout']

_MAX_PICTURES_READ = 1000  # beyond it, pictures spread evenly over the data set


class Layout:
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
        missing = missing_files(paths)
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
            if not looks_whole(path):
                problem = decode_problem(path)
                if problem:
                    raise ValueError(broken_picture_sentence(path, problem))
