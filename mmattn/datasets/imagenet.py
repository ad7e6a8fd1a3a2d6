"""ImageNet's variants that mmpretrain has no data set for."""

from pathlib import Path
from typing import Any

from mmpretrain.datasets import ImageNet

from mmattn.registry import DATASETS

__all__ = ['ImageNetSubset', 'ImageNetV2']


@DATASETS.register_module()
class ImageNetV2(ImageNet):
    """ImageNet-V2: 10,000 new images for the 1,000 classes of ImageNet, to test on.

    Its folders are named ``0`` to ``999``, and the name is the label. Read as any data set of
    folders they would be sorted as text (``0, 1, 10, 100, ...``), and nearly every label would be
    wrong without a word.

    Paper: Do ImageNet Classifiers Generalize to ImageNet?, ICML 2019, arXiv 1902.10811.

    Args: those of mmpretrain's ``ImageNet``; ``data_root`` is the folder that holds the 1,000.

    Raises:
        ValueError: a folder's name is no label.
    """

    def load_data_list(self) -> list[dict]:
        """Return path and label of every image."""
        data_list = super().load_data_list()
        labels = {str(label): label for label in range(len(self.CLASSES))}
        for info in data_list:
            folder = Path(info['img_path']).relative_to(self.img_prefix).parts[0]
            if folder not in labels:
                raise ValueError(
                    f'the folders of ImageNet-V2 must be named 0 to {len(labels) - 1}, got '
                    f'{folder!r} in {self.img_prefix}'
                )
            info['gt_label'] = labels[folder]
        return data_list


@DATASETS.register_module()
class ImageNetSubset(ImageNet):
    """The images of some of ImageNet's classes, evenly spaced in their order.

    Class ``i`` of the subset is class ``i * 1000 // number`` of ImageNet, so that the subset is
    as mixed as the whole: neighbours in ImageNet's order are often animals of one kind.

    Args:
        number: classes to keep.
        kwargs: arguments of mmpretrain's ``ImageNet``.

    Raises:
        ValueError: ``number`` is not between 1 and the classes there are.
    """

    def __init__(self, number: int = 200, **kwargs: Any) -> None:
        self.number = number
        super().__init__(**kwargs)

    def load_data_list(self) -> list[dict]:
        """Return path and new label of every image that is kept."""
        data_list = super().load_data_list()
        classes = self.CLASSES
        if not 1 <= self.number <= len(classes):
            raise ValueError(f'number must be from 1 to {len(classes)}, got {self.number}')
        old = [i * len(classes) // self.number for i in range(self.number)]
        new = {label: i for i, label in enumerate(old)}
        self._metainfo['classes'] = tuple(classes[label] for label in old)
        return [
            dict(info, gt_label=new[info['gt_label']])
            for info in data_list
            if info['gt_label'] in new
        ]
