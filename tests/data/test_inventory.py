"""tools/check_dataset.py: what is found, missing and broken, layout by layout."""

import hashlib
import json
import pickle
import re
from unittest import mock

import numpy as np
import pytest
from mmengine.config import Config

pytest.importorskip('mmdet')
pytest.importorskip('mmpretrain')

from mmattn.data.inventory import take_inventory
from tests.commands import ROOT, run_command
from tests.data.sets import coco_cfg, image, write_coco

PAGE = (ROOT / 'docs/datasets.md').read_text()


def classes_cfg(outputs=2, **dataset):
    head = dict(type='LinearClsHead', num_classes=outputs)
    return Config(
        dict(
            default_scope='mmpretrain',
            model=dict(head=head),
            train_dataloader=dict(dataset=dict(type='CustomDataset', **dataset)),
        )
    )


def folders(root, classes=('cat', 'dog'), images=3):
    for name in classes:
        for i in range(images):
            image(root / name / f'{i}.jpg')
    return root


def look(cfg, **options):
    (entry,) = take_inventory(cfg, ['train'], **options)
    return entry


def test_a_whole_set_of_folders(tmp_path):
    entry = look(classes_cfg(data_root=str(folders(tmp_path))))
    assert entry.whole
    assert str(entry) == (
        f'train_dataloader.dataset: CustomDataset in {tmp_path}\n'
        '  found:   6 images of 2 classes, 3 to 3 a class\n'
        '  missing: nothing\n'
        '  broken:  none of 6'
    )


def test_a_missing_folder(tmp_path):
    entry = look(classes_cfg(data_root=str(tmp_path / 'no')))
    assert re.match(rf'{tmp_path}/no is no folder \(relative paths start at .+\)', entry.missing)
    assert not entry.whole


def test_a_missing_image_and_a_broken_one(tmp_path):
    folders(tmp_path / 'images')
    lines = ['cat/0.jpg 0', 'cat/9.jpg 0', 'dog/1.jpg 1', 'dog/2.jpg 1']
    (tmp_path / 'list.txt').write_text('\n'.join(lines))
    (tmp_path / 'images/dog/2.jpg').write_bytes(b'\xff\xd8 cut off')
    entry = look(classes_cfg(data_root=str(tmp_path), data_prefix='images', ann_file='list.txt'))
    assert entry.missing == f'1 of 4 images, the first is {tmp_path}/images/cat/9.jpg'
    assert entry.broken.startswith(f'{tmp_path}/images/dog/2.jpg: it is')


def test_only_every_decodes_the_middle_of_an_image(tmp_path):
    folders(tmp_path)
    path = tmp_path / 'dog/1.jpg'
    content = path.read_bytes()
    path.write_bytes(content[:2] + b'\0' * 200 + content[-2:])
    assert look(classes_cfg(data_root=str(tmp_path))).whole
    assert str(path) in look(classes_cfg(data_root=str(tmp_path)), every=True).broken


def test_a_missing_list_names_the_nearest(tmp_path):
    folders(tmp_path)
    (tmp_path / 'train.txt').write_text('cat/0.jpg 0')
    entry = look(classes_cfg(data_root=str(tmp_path), ann_file='trian.txt'))
    assert 'trian.txt, which CustomDataset reads, does not exist' in entry.missing
    assert '(the nearest there is train.txt)' in entry.missing


def test_a_line_without_a_label(tmp_path):
    folders(tmp_path)
    (tmp_path / 'train.txt').write_text('cat/0.jpg 0\ndog/0.jpg')
    entry = look(classes_cfg(data_root=str(tmp_path), ann_file='train.txt'))
    assert entry.broken.startswith(f'{tmp_path}/train.txt: ValueError: ')


def test_labels_that_the_head_has_not(tmp_path):
    folders(tmp_path, ('a', 'b', 'c'))
    entry = look(classes_cfg(outputs=2, data_root=str(tmp_path)))
    assert 'label 2 of' in entry.broken
    assert 'not in 0 to 1, the outputs of the head (num_classes=2)' in entry.broken


def test_a_misspelt_option_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no option 'data_rot', did you mean 'data_root'"):
        look(classes_cfg(data_rot=str(tmp_path)))


def test_boxes_are_looked_at_by_the_checks_before_a_run(tmp_path):
    cfg = coco_cfg(write_coco(tmp_path))
    entry = look(cfg)
    assert (entry.whole, entry.found, entry.decoded) == (True, '2 images', 2)
    (tmp_path / 'images/2.jpg').unlink()
    assert look(cfg).missing.startswith('1 of the 2 images of')
    (tmp_path / 'boxes.json').write_text('[')
    assert 'boxes.json' in look(cfg).broken


def data_of(config, root):
    """A shipped config's training set, below another folder."""
    cfg = Config.fromfile(ROOT / 'configs' / config)
    dataset = cfg.train_dataloader.dataset
    while 'dataset' in dataset:
        dataset = dataset.dataset
    dataset.data_root = str(root / dataset.data_root.removeprefix('data/').strip('/'))
    return cfg, root / dataset.data_root


def test_imagenet_by_its_lists(tmp_path):
    cfg, root = data_of('attention_classification/se-resnet50_4xb128-150e_in1k.py', tmp_path)
    (root / 'meta').mkdir(parents=True)
    (root / 'meta/train.txt').write_text('a.JPEG 7\nb.JPEG 999\n')
    image(root / 'train/b.JPEG')
    entry = look(cfg)
    assert entry.found.startswith('1 images of 1 classes, 1 to 1 a class; the whole set has 1,281')
    assert entry.missing == f'1 of 2 images, the first is {root}/train/a.JPEG'
    assert '999 of 1,000 classes have no image' in entry.notes


def test_cub_and_its_head(tmp_path):
    cfg, root = data_of('tdam/td-resnet50-joint-t2m1_8xb8_cub.py', tmp_path)
    names = [f'{i:03}.bird/{i}.jpg' for i in (1, 2)]
    for name in names:
        image(root / 'images' / name)
    for file, words in (
        ('images.txt', names),
        ('image_class_labels.txt', ('1', '2')),
        ('train_test_split.txt', ('1', '1')),
    ):
        (root / file).write_text(''.join(f'{i} {word}\n' for i, word in enumerate(words, 1)))
    entry = look(cfg)
    assert entry.found == ('2 images of 2 classes, 1 to 1 a class; the whole set has 5,994')
    assert entry.whole
    assert '198 of 200 classes have no image' in entry.notes
    assert '5,992 images fewer than the whole set' in entry.notes
    (root / 'train_test_split.txt').unlink()
    assert 'train_test_split.txt, which CUB reads, does not exist' in look(cfg).missing


def test_multi_label(tmp_path):
    cfg, root = data_of('tdam/td-resnet50-joint-t2m1_8xb16_coco-multilabel.py', tmp_path)
    image(root / 'train2017/1.jpg')
    assert 'multilabel_train2017.json' in look(cfg).missing
    content = dict(
        metainfo=dict(classes=['a', 'b']), data_list=[dict(img_path='1.jpg', gt_label=[0, 1])]
    )
    (root / 'annotations').mkdir()
    (root / 'annotations/multilabel_train2017.json').write_text(json.dumps(content))
    entry = look(cfg)
    assert (entry.whole, entry.found) == (True, '1 images of 2 classes, 1 to 1 a class')


def test_cifar_is_not_downloaded(tmp_path):
    cfg, root = data_of('ssia/resnet50_1xb32-100e_cifar10-224.py', tmp_path)
    root.mkdir(parents=True)
    entry = look(cfg)
    assert entry.found == '0 of the 7 files of cifar-10-batches-py'
    assert 'unpack cifar-10-python.tar.gz into' in entry.missing
    assert list(root.iterdir()) == []


def test_cifar_files_by_their_checksums(tmp_path):
    from mmpretrain.datasets import CIFAR10

    cfg, root = data_of('autoencoder_report/report-cnn_10e_cifar10.py', tmp_path)
    folder = root / CIFAR10.base_folder
    folder.mkdir(parents=True)
    batch = pickle.dumps(dict(data=np.zeros((2, 3072), np.uint8), labels=[0, 9]))
    meta = pickle.dumps(dict(label_names=[str(i) for i in range(10)]))
    sums = {}
    for name, _ in (*CIFAR10.train_list, *CIFAR10.test_list):
        (folder / name).write_bytes(batch)
        sums[name] = hashlib.md5(batch).hexdigest()
    (folder / CIFAR10.meta['filename']).write_bytes(meta)
    assert 'data_batch_1 is not the file that was published (checksum)' in look(cfg).broken
    lists = {
        key: [[name, sums[name]] for name, _ in getattr(CIFAR10, key)]
        for key in ('train_list', 'test_list')
    }
    lists['meta'] = dict(CIFAR10.meta, md5=hashlib.md5(meta).hexdigest())
    with mock.patch.multiple(CIFAR10, **lists):
        entry = look(cfg)
    assert entry.whole
    assert entry.found.startswith('10 images of 2 classes, 5 to 5 a class')


def test_the_tool_ends_as_documented(tmp_path, capsys):
    cfg = classes_cfg(data_root=str(folders(tmp_path / 'data')))
    cfg.val_dataloader = cfg.test_dataloader = cfg.train_dataloader
    cfg.dump(tmp_path / 'config.py')
    assert run_command('check_dataset.py', tmp_path / 'config.py') == 0
    said = capsys.readouterr().out
    assert said.count('CustomDataset in') == 1  # the same data in three splits
    (tmp_path / 'data/cat/0.jpg').write_bytes(b'')
    assert run_command('check_dataset.py', tmp_path / 'config.py', '--splits', 'val') == 1
    said = capsys.readouterr().out
    assert 'cat/0.jpg: the file is empty' in said
    assert said.endswith('docs/datasets.md\n')
    assert run_command('check_dataset.py', tmp_path / 'no.py') == 2


@pytest.mark.parametrize(
    'folder',
    ['imagenet', 'imagenetv2', 'mini_imagenet', 'cifar10', 'cifar100', 'CUB_200_2011', 'coco'],
)
def test_the_page_has_the_folder_of_every_set(folder):
    assert f'data/{folder}' in PAGE
