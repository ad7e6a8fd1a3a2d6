"""mmpretrain numbers folders by their sorted names; a config that says otherwise is refused."""

import pytest
from mmengine.config import Config

pytest.importorskip('mmpretrain', reason='mmpretrain is not installed')

from mmattn.data.checks import check_data  # noqa: E402


def make(root, *folders):
    for folder in folders:
        (root / folder).mkdir(parents=True)
        (root / folder / '1.png').write_bytes(b'')
    return root


def config(root, classes=None, outputs=3, **options):
    def loader(split):
        dataset = dict(
            type='CustomDataset', data_root=str(root), data_prefix=split, pipeline=[], **options
        )
        return dict(dataset=dict(dataset, classes=classes) if classes else dataset)

    model = dict(type='ImageClassifier', backbone=dict(type='ResNet', depth=18))
    return Config(
        dict(
            default_scope='mmpretrain',
            model=dict(model, head=dict(type='LinearClsHead', num_classes=outputs)),
            train_dataloader=loader('train'),
            val_dataloader=loader('val'),
        )
    )


FOLDERS = ('bus', 'car', 'van')
ROWS = {
    'no classes': ({}, None),
    'sorted': (dict(classes=FOLDERS), None),
    'other names': (dict(classes=('Bus', 'Car', 'Van')), None),
    'more outputs': (dict(outputs=10), None),
    'no labels': (dict(classes=('car', 'bus', 'van'), with_label=False), None),
    'another order': (
        dict(classes=('car', 'bus', 'van')),
        r"'car' is label 0 in classes and label 1 in .*train: mmpretrain numbers folders by their "
        r"sorted names, so labels would be exchanged: write classes=\('bus', 'car', 'van'\)",
    ),
    'too few names': (dict(classes=('bus', 'car')), 'classes has 2 names and .* 3 folders'),
    'too few outputs': (dict(outputs=2), r'has 3 folders, .* num_classes=2: write num_classes=3'),
}


@pytest.mark.parametrize('row', ROWS)
def test_classes_and_folders(tmp_path, row):
    options, message = ROWS[row]
    for split in ('train', 'val'):
        make(tmp_path / split, *FOLDERS)
    if message is None:
        assert check_data(config(tmp_path, **options)) == []
        return
    with pytest.raises(ValueError, match=f'^train_dataloader.dataset: .*{message}'):
        check_data(config(tmp_path, **options))


def test_folders_of_another_split(tmp_path):
    make(tmp_path / 'train', *FOLDERS)
    make(tmp_path / 'val', 'bus', 'van')
    with pytest.raises(ValueError, match="val_dataloader.*'van' is label 2 in the training and"):
        check_data(config(tmp_path))


def test_a_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match='train does not exist; set data_root and'):
        check_data(config(tmp_path))


def test_an_annotation_file_numbers_itself(tmp_path):
    make(tmp_path / 'train', *FOLDERS)
    make(tmp_path / 'val', *FOLDERS)
    (tmp_path / 'list.txt').write_text('bus/1.png 2\n')
    assert check_data(config(tmp_path, ('van', 'car', 'bus'), ann_file='list.txt')) == []
