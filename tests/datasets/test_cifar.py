"""CIFAR-10 in folders gives the images and labels that its archive gives."""

import numpy as np
import pytest

pytest.importorskip('mmpretrain')

from mmengine.registry import DATASETS
from mmpretrain.datasets import CIFAR10
from PIL import Image

CLASSES = CIFAR10.METAINFO['classes']


@pytest.fixture
def root(tmp_path):
    for split in ('train', 'test'):
        for label, name in enumerate(CLASSES):
            (tmp_path / split / name).mkdir(parents=True)
            picture = np.full((32, 32, 3), (20 * label, 100, 200), np.uint8)  # RGB
            Image.fromarray(picture).save(tmp_path / split / name / '0.png')
        (tmp_path / split / 'LICENSE').touch()  # a file beside the folders is no class
    return tmp_path


def build(root, **options):
    dataset = dict(type='mmattn.CIFAR10Folders', _scope_='mmpretrain', data_root=str(root))
    return DATASETS.build(dataset | options)


@pytest.mark.parametrize('split', ['train', 'test'])
def test_images_are_rgb_and_labels_those_of_the_archive(root, split):
    dataset = build(root, split=split, pipeline=[dict(type='PackInputs')])
    assert dataset.metainfo['classes'] == CLASSES
    samples = [dataset[i] for i in range(len(dataset))]
    assert [s['data_samples'].gt_label.item() for s in samples] == list(range(10))
    assert [tuple(s['inputs'][:, 5, 7].tolist()) for s in samples] == [
        (20 * label, 100, 200) for label in range(10)
    ]
    assert all(f'/{split}/' in s['data_samples'].img_path for s in samples)


def test_parts_of_it_are_drawn_as_parts_of_the_archive(root):
    inner = dict(type='mmattn.CIFAR10Folders', data_root=str(root), split='train')
    split = dict(type='mmattn.RandomSplit', dataset=inner, lengths=(7, 3), _scope_='mmpretrain')
    parts = [DATASETS.build(split | dict(part=part)).get_gt_labels() for part in (0, 1)]
    assert sorted(np.concatenate(parts)) == list(range(10))
    assert len(parts[0]) == 7


def test_other_folders_are_refused(root):
    (root / 'train' / 'truck').rename(root / 'train' / 'lorry')
    with pytest.raises(ValueError, match='must hold the folders airplane, .*, got .* lorry'):
        build(root)
    with pytest.raises(ValueError, match="split must be 'train' or 'test', got 'val'"):
        build(root, split='val')
