"""CIFAR-10 from image files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmpretrain.datasets import CIFAR10, CustomDataset

from mmattn.registry import DATASETS

__all__ = ['CIFAR10Folders']


@DATASETS.register_module()
class CIFAR10Folders(CustomDataset):
    """CIFAR-10 as image files in a folder for each class; stands where ``CIFAR10`` stands.

    Its images are RGB, as those of mmpretrain's ``CIFAR10``, which reads the published archive
    alone: ``train_dataloader.dataset.type=mmattn.CIFAR10Folders`` is all that changes.

    Args:
        data_root: the folder that holds ``train/airplane`` to ``train/truck`` and ``test/...``.
        split: ``'train'`` or ``'test'``.
        pipeline: the transforms after an image is read.
        kwargs: arguments of mmpretrain's ``CustomDataset``.

    Raises:
        ValueError: unknown ``split``, or the folders are not CIFAR-10's ten classes.
    """

    METAINFO = CIFAR10.METAINFO

    def __init__(
        self, data_root: str, split: str = 'train', pipeline: Sequence[dict] = (), **kwargs: Any
    ) -> None:
        if split not in ('train', 'test'):
            raise ValueError(f"split must be 'train' or 'test', got {split!r}")
        read = [
            dict(type='LoadImageFromFile'),
            dict(type='NumpyToPIL', to_rgb=True),
            dict(type='PILToNumpy'),
        ]
        super().__init__(
            data_root=data_root, data_prefix=split, pipeline=[*read, *pipeline], **kwargs
        )

    def load_data_list(self) -> list[dict]:
        """Return path and label of every image."""
        root = Path(self.img_prefix)
        found = sorted(path.name for path in root.glob('*') if path.is_dir())
        if found != list(self.CLASSES):
            raise ValueError(
                f'data_root: {root} must hold the folders {", ".join(self.CLASSES)}, '
                f'got {", ".join(found) or "none"}'
            )
        return super().load_data_list()
