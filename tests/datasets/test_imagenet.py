"""ImageNet-V2's folders are numbers, and a subset numbers its classes anew."""

import pytest

pytest.importorskip('mmpretrain')

from mmengine.config import Config
from mmengine.registry import DATASETS

from tests.commands import ROOT
from tests.data.sets import image

V2 = 'configs/tdam/td-resnet50-joint-t2m1_in1k-v2.py'
SUBSET = 'configs/tdam/td-resnet50-joint-t2m1_4xb128-150e_in200.py'


def folders(root, names):
    for name in names:
        image(root / name / 'a.jpg', (8, 6))
    return root


def labels(dataset):
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    return {info['img_path'].split('/')[-2]: info['gt_label'] for info in infos}


def test_the_folders_of_v2_are_their_labels(tmp_path):
    cfg = Config.fromfile(ROOT / V2).test_dataloader.dataset
    assert (cfg.type, cfg.data_root) == ('mmattn.ImageNetV2', 'data/imagenetv2')
    cfg.data_root = str(folders(tmp_path, [str(i) for i in range(1000)]))
    dataset = DATASETS.build(dict(cfg, _scope_='mmpretrain'))
    assert labels(dataset) == {str(i): i for i in range(1000)}
    assert dataset.metainfo['classes'][999] == 'toilet tissue, toilet paper, bathroom tissue'
    assert dataset[0]['inputs'].shape == (3, 224, 224)


def test_other_folders_are_refused(tmp_path):
    folders(tmp_path, [*(str(i) for i in range(1, 1000)), 'n01440764'])
    with pytest.raises(ValueError, match="must be named 0 to 999, got 'n01440764' in"):
        DATASETS.build(dict(type='mmattn.ImageNetV2', data_root=str(tmp_path)))


def test_a_subset_is_every_fifth_class(tmp_path):
    names = [f'n{i:04}' for i in range(1000)]
    cfg = Config.fromfile(ROOT / SUBSET)
    dataset = cfg.train_dataloader.dataset
    assert (dataset.type, dataset.number, dataset.split) == ('mmattn.ImageNetSubset', 200, 'train')
    assert cfg.test_dataloader.dataset.type == dataset.type
    dataset.data_root = str(folders(tmp_path / 'train', names).parent)
    built = DATASETS.build(dict(dataset, _scope_='mmpretrain'))
    assert labels(built) == {names[5 * i]: i for i in range(200)}
    assert len(built.metainfo['classes']) == cfg.model.head.num_classes == 200


@pytest.mark.parametrize('number', [0, 1001])
def test_a_subset_of_classes_that_are_not_there(tmp_path, number):
    folders(tmp_path, [str(i) for i in range(1000)])
    with pytest.raises(ValueError, match=f'number must be from 1 to 1000, got {number}'):
        DATASETS.build(dict(type='mmattn.ImageNetSubset', number=number, data_root=str(tmp_path)))
