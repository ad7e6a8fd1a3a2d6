"""Files by name, and the nearest name where one is not there."""

import unicodedata
from pathlib import Path

import pytest

from mmattn.data.folders import ImageIndex, Names, missing_files


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b'x')
    return root


@pytest.mark.parametrize(
    'name, twin',
    [
        ('p0.jpg', 'p0.JPG (another case)'),
        ('P0.JPG', 'p0.JPG (another case)'),
        ('p1.jpg', 'p1.png (another suffix)'),
        ('p1', 'p1.png (another suffix)'),
        ('café.jpg', unicodedata.normalize('NFD', 'café.jpg') + ' (another Unicode form'),
        ('p2.jpg', ''),
    ],
)
def test_the_same_name_written_otherwise(name, twin):
    names = Names(['p0.JPG', 'p1.png', unicodedata.normalize('NFD', 'café.jpg'), 'other.jpg'])
    assert names.twin(unicodedata.normalize('NFC', name)).startswith(twin)
    assert bool(names.twin(name)) == bool(twin)


def test_a_misspelt_name():
    assert Names(['image_01.jpg', 'b.jpg']).nearest('imgae_01.jpg') == 'image_01.jpg'
    assert Names(['b.jpg']).nearest('image_01.jpg') == ''
    assert Names(f'{i:05d}.jpg' for i in range(6000)).nearest('00001.jpgg') == ''  # too many


def test_keys_find_files_by_path_and_by_name(tmp_path):
    index = ImageIndex(touch(tmp_path, 'a.jpg', 'x/b.jpg', 'x/c.png', 'y/c.png', 'z/v1.2.jpg'))

    def found(key):
        return [file.relative_to(tmp_path).as_posix() for file in index.find(key)]

    assert found('a') == found('a.jpg') == found('images/a.jpg') == ['a.jpg']
    assert found('b') == found('x/b') == found('val\\x\\b.jpg') == ['x/b.jpg']
    assert found('c') == found('c.png') == ['x/c.png', 'y/c.png']
    assert found('y/c') == ['y/c.png']
    assert found('v1.2') == ['z/v1.2.jpg']
    assert found('gone') == []


def test_files_of_one_stem_stay_apart(tmp_path):
    index = ImageIndex(touch(tmp_path, 'a.jpg', 'a.png', 'sub/a.webp'))
    assert [f.name for f in index.find('a')] == ['a.jpg', 'a.png']
    assert [f.name for f in index.find('a.png')] == ['a.png']
    assert [f.name for f in index.find('sub/a')] == ['a.webp']
    assert index.instead('A.JPG') == ', the nearest is a.jpg (another case)'
    assert index.instead('b.tif') == ''


def test_folders_without_images(tmp_path):
    with pytest.raises(ValueError, match='images: .*gone is no folder'):
        ImageIndex(tmp_path / 'gone')
    with pytest.raises(ValueError, match='images: no images in'):
        ImageIndex(touch(tmp_path, 'a.txt'))


def test_missing_files(tmp_path):
    touch(tmp_path, 'a.jpg')
    here, gone = str(tmp_path / 'a.jpg'), [str(tmp_path / 'A.jpg'), str(tmp_path / 'x' / 'a.jpg')]
    assert missing_files([here, *gone]) == gone
    assert missing_files([str(Path(here).parent / 'null\0byte' / 'a')]) != []
