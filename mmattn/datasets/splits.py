"""Parts of a data set that has no validation split of its own."""

from collections.abc import Sequence

import torch
from mmengine.dataset import BaseDataset

from mmattn.registry import DATASETS

__all__ = ['random_split']


@DATASETS.register_module(name='RandomSplit')
def random_split(dataset: dict, lengths: Sequence[int], part: int, seed: int = 42) -> BaseDataset:
    """Build a data set and keep one part of it, drawn as ``torch.utils.data.random_split`` does.

    In a config: ``dict(type='mmattn.RandomSplit', dataset=dict(type='CIFAR10', ...),
    lengths=(45000, 5000), part=0)``.

    Args:
        dataset: config of the data set.
        lengths: images in every part; their sum is the data set's length.
        part: which part to keep, from 0.
        seed: of the draw; the same seed draws the same parts.

    Returns:
        The data set with the images of the part alone, in the drawn order.

    Raises:
        ValueError: the lengths do not sum to the data set's, or there is no such part.
    """
    built = DATASETS.build(dataset)
    built.full_init()
    if sum(lengths) != len(built):
        raise ValueError(
            f'lengths must sum to the {len(built)} images of the data set, got {tuple(lengths)}'
        )
    if part not in range(len(lengths)):
        raise ValueError(f'part must be from 0 to {len(lengths) - 1}, got {part!r}')
    order = torch.randperm(len(built), generator=torch.Generator().manual_seed(seed)).tolist()
    start = sum(lengths[:part])
    built.get_subset_(order[start : start + lengths[part]])
    return built
