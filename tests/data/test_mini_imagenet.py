"""The re-split of mini-ImageNet."""

import csv

import cv2
import numpy as np
import pytest

from mmattn.data.mini_imagenet import split_mini_imagenet
from tests.commands import ROOT, run_command

TOOL = 'dataset_converters/mini_imagenet.py'
CLASSES = dict(n01=('train', 10), n02=('train', 5), n03=('val', 10), n04=('test', 10))


def write(root, layout):
    image = np.zeros((8, 8, 3), np.uint8)
    rows = dict(train=[], val=[], test=[])
    for name, (split, count) in CLASSES.items():
        folder = root / ('images' if layout == 'lists' else f'{split}/{name}')
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            cv2.imwrite(str(folder / f'{name}_{number}.jpg'), image)
            rows[split].append((f'{name}_{number}.jpg', name))
    if layout == 'lists':
        for split, lines in rows.items():
            with open(root / f'{split}.csv', 'w', newline='') as file:
                csv.writer(file).writerows([('filename', 'label'), *lines])


def read(root, name):
    return [line.split() for line in (root / 'meta' / f'{name}.txt').read_text().splitlines()]


@pytest.mark.parametrize('layout', ['lists', 'folders'])
def test_a_fifth_of_every_class_is_kept(tmp_path, layout, capsys):
    write(tmp_path, layout)
    assert run_command(TOOL, tmp_path) == 0
    assert 'note: 4 classes' in capsys.readouterr().out
    train, val = read(tmp_path, 'train'), read(tmp_path, 'val')
    assert read(tmp_path, 'classes') == [[name] for name in CLASSES]
    for label, (name, (_, count)) in enumerate(CLASSES.items()):
        kept = [path for path, number in val if int(number) == label]
        rest = [path for path, number in train if int(number) == label]
        assert len(kept) == count // 5
        assert len({*kept, *rest}) == count
        assert all(name in path and (tmp_path / path).is_file() for path in kept + rest)
    first = val
    assert run_command(TOOL, tmp_path, '--seed', '1') == 0
    assert read(tmp_path, 'val') != first
    assert run_command(TOOL, tmp_path) == 0
    assert read(tmp_path, 'val') == first


def test_the_config_reads_the_lists(tmp_path):
    pytest.importorskip('mmpretrain', reason='a classification data set')
    from mmengine.config import Config
    from mmpretrain.registry import DATASETS

    write(tmp_path, 'lists')
    run_command(TOOL, tmp_path)
    cfg = Config.fromfile(ROOT / 'configs/ssia/resnet50-ssia_1xb32-100e_mini-imagenet.py')
    for split, count in (('train', 28), ('val', 7)):
        dataset = cfg[f'{split}_dataloader'].dataset
        data = DATASETS.build({**dataset, 'data_root': str(tmp_path)})
        assert len(data) == count
        assert data[0]['inputs'].shape == (3, 224, 224)
        assert {data.get_data_info(i)['gt_label'] for i in range(count)} == {0, 1, 2, 3}


@pytest.mark.parametrize(
    'change, words',
    [
        (lambda root: (root / 'val.csv').write_text('a,b\n'), 'must have the columns filename'),
        (lambda root: (root / 'images/n02_3.jpg').unlink(), r'1 listed images .*n02_3'),
        (lambda root: [p.unlink() for p in root.glob('*.csv')], 'must hold train.csv'),
    ],
)
def test_bad_folders(tmp_path, capsys, change, words):
    write(tmp_path, 'lists')
    change(tmp_path)
    with pytest.raises(ValueError, match=words):
        split_mini_imagenet(tmp_path)
    assert run_command(TOOL, tmp_path) == 1
    assert capsys.readouterr().err.startswith('mini_imagenet: ')


@pytest.mark.parametrize(
    'val, words', [(0, 'must lie between 0 and 1, got 0'), (0.05, 'of n01 leaves no split')]
)
def test_bad_shares(tmp_path, val, words):
    write(tmp_path, 'folders')
    with pytest.raises(ValueError, match=words):
        split_mini_imagenet(tmp_path, val=val)
