"""The digit scenes: same seed same files, no scan on both sides, two layouts that agree."""

import hashlib
import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config

from mmattn.data import digits as library
from mmattn.data.digits import CLASSES, make_digits
from tests.commands import ROOT, run_command

pytest.importorskip('sklearn', reason='the digit scenes need scikit-learn')
TOOL = 'dataset_converters/make_digits.py'


@pytest.fixture(scope='module')
def digits(tmp_path_factory):
    """Eight training and four validation scenes of 64 pixels; read only."""
    out = tmp_path_factory.mktemp('data') / 'digits'
    make_digits(out, train=8, val=4, size=64, digits=3)
    return out


def fingerprint(folder):
    files = sorted(path for path in folder.rglob('*') if path.is_file())
    return {str(f.relative_to(folder)): hashlib.sha1(f.read_bytes()).hexdigest() for f in files}


def coco(folder, split):
    return json.loads((folder / 'annotations' / f'instances_{split}.json').read_text())


def test_same_seed_gives_the_same_files_and_another_seed_others(digits, tmp_path):
    make_digits(tmp_path / 'again', train=8, val=4, size=64, digits=3)
    assert fingerprint(tmp_path / 'again') == fingerprint(digits)
    make_digits(tmp_path / 'other', train=8, val=4, size=64, digits=3, seed=1)
    first, other = fingerprint(digits), fingerprint(tmp_path / 'other')
    assert first.keys() == other.keys()
    assert first['train/00001.jpg'] != other['train/00001.jpg']


def test_no_scan_is_in_training_and_validation(tmp_path):
    make_digits(tmp_path / 'set', train=300, val=100, size=32, digits=8)
    used = {
        split: {a['scan'] for a in coco(tmp_path / 'set', split)['annotations']}
        for split in ('train', 'val')
    }
    assert len(used['train']) > 300
    assert len(used['val']) > 50
    assert not used['train'] & used['val']


def test_the_deal_of_scans_covers_all_and_every_class():
    labels = np.repeat(np.arange(10), 20)
    parts = library.split_scans(labels, seed=3)
    together = np.concatenate([parts['train'], parts['val']])
    assert sorted(together) == list(range(200))
    assert np.bincount(labels[parts['val']]).tolist() == [4] * 10


def test_boxes_lie_inside_and_coco_and_voc_agree(digits):
    for split, number in (('train', 8), ('val', 4)):
        content = coco(digits, split)
        assert len(content['images']) == number
        names = (digits / 'voc/ImageSets/Main' / f'{split}.txt').read_text().split()
        assert len(names) == number
        for image, name in zip(content['images'], names):
            pixels = cv2.imread(str(digits / split / image['file_name']))
            assert pixels.shape == (64, 64, 3)
            same = (digits / 'voc/JPEGImages' / f'{name}.jpg').read_bytes()
            assert same == (digits / split / image['file_name']).read_bytes()
            boxes = [a for a in content['annotations'] if a['image_id'] == image['id']]
            assert boxes
            expected = []
            for box in boxes:
                x, y, w, h = box['bbox']
                assert 0 <= x < x + w <= 64 and 0 <= y < y + h <= 64
                assert box['area'] == w * h
                expected.append((CLASSES[box['category_id'] - 1], x + 1, y + 1, x + w, y + h))
            root = ElementTree.parse(digits / 'voc/Annotations' / f'{name}.xml').getroot()
            found = [
                (o.find('name').text, *(int(v.text) for v in o.find('bndbox')))
                for o in root.iter('object')
            ]
            assert found == expected


def test_the_box_is_the_smallest_around_the_ink():
    rng = np.random.default_rng(0)
    scan = np.zeros((8, 8), np.float32)
    scan[2:6, 3:5] = 1  # rows 2..5, columns 3..4 of 8: pixels 10..29 and 15..24 of 40
    image = np.full((100, 100, 3), 128, np.float32)
    x1, y1, x2, y2 = library.draw_digit(rng, image, scan, (20, 30, 40))
    assert np.abs(np.array([x1, y1, x2, y2]) - [35, 40, 45, 60]).max() <= 2
    changed = np.abs(image - 128).max(2) > 30
    rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    assert abs(rows[0] - y1) <= 1 and abs(rows[-1] + 1 - y2) <= 1
    assert abs(columns[0] - x1) <= 1 and abs(columns[-1] + 1 - x2) <= 1


def test_one_digit_scenes_lie_in_class_folders_with_one_box(tmp_path):
    make_digits(tmp_path / 'one', train=12, val=6, size=48, one_digit=True)
    content = coco(tmp_path / 'one', 'train')
    assert [a['image_id'] for a in content['annotations']] == list(range(1, 13))
    for image, box in zip(content['images'], content['annotations']):
        assert image['file_name'].split('/')[0] == CLASSES[box['category_id'] - 1]
        assert (tmp_path / 'one' / 'train' / image['file_name']).is_file()


def test_a_finished_set_is_kept_and_another_option_replaces_it(tmp_path):
    lines = []
    out = tmp_path / 'set'
    make_digits(out, train=3, val=2, size=32, report=lines.append)
    image = out / 'train' / '00001.jpg'
    before = image.stat().st_mtime_ns
    make_digits(out, train=3, val=2, size=32, report=lines.append)
    assert image.stat().st_mtime_ns == before
    assert 'nothing to do' in lines[-1]
    image.unlink()  # a damaged set is not a finished one
    make_digits(out, train=3, val=2, size=32)
    assert image.is_file()
    make_digits(out, train=4, val=2, size=32)
    assert len(list((out / 'train').iterdir())) == 4


def test_an_interrupted_write_leaves_the_old_set(tmp_path, monkeypatch):
    out = tmp_path / 'set'
    make_digits(out, train=3, val=2, size=32)
    before = fingerprint(out)
    real, calls = library.write_image, []

    def fail_at_the_third(*args):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        real(*args)

    monkeypatch.setattr(library, 'write_image', fail_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        make_digits(out, train=9, val=2, size=32)
    assert fingerprint(out) == before
    assert [p.name for p in tmp_path.iterdir()] == ['set']


def test_a_kill_between_the_two_renames_is_undone(tmp_path):
    out = tmp_path / 'set'
    make_digits(out, train=3, val=2, size=32)
    before = fingerprint(out)
    out.rename(tmp_path / '.set.old')
    (tmp_path / '.set.tmp-999999999').mkdir()  # no such process
    lines = []
    make_digits(out, train=3, val=2, size=32, report=lines.append)
    assert 'nothing to do' in lines[-1]
    assert fingerprint(out) == before
    assert [p.name for p in tmp_path.iterdir()] == ['set']


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(train=0), 'train must be from 1 to 99999, got 0'),
        (dict(val=-1), 'val must be from 1 to 99999, got -1'),
        (dict(size=31), 'size must be from 32 to 4096, got 31'),
        (dict(digits=0), 'digits must be from 1 to 50, got 0'),
        (dict(seed=-1), 'seed must be >= 0, got -1'),
    ],
    ids=lambda row: next(iter(row)) if isinstance(row, dict) else '',
)
def test_options_out_of_range_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        make_digits(tmp_path / 'set', **options)
    assert not any(tmp_path.iterdir())


def test_a_folder_of_someone_else_is_left_alone(tmp_path):
    (tmp_path / 'thesis.txt').write_text('years of work')
    with pytest.raises(ValueError, match='was not written by this tool and is left alone'):
        make_digits(tmp_path)
    assert (tmp_path / 'thesis.txt').read_text() == 'years of work'


def test_the_command_line_reports_and_sets_the_exit_code(tmp_path, capsys):
    args = [str(tmp_path / 'set'), '--train', '2', '--val', '1', '--size', '32']
    assert run_command(TOOL, *args) == 0
    assert 'digits with boxes' in capsys.readouterr().out
    assert run_command(TOOL, *args, '--digits', '99') == 1
    assert 'make_digits: digits must be from 1 to 50, got 99' in capsys.readouterr().err


@pytest.mark.parametrize('config', ['tdam/td-resnet18-joint-t2m2_20e', 'demo/resnet18-cbam_750i'])
def test_class_names_of_the_configs_are_those_of_the_folders(tmp_path, config):
    """mmpretrain numbers the folders in their order, whatever names it is given."""
    pytest.importorskip('mmpretrain', reason='a classifier')
    from mmengine.registry import DATASETS, init_default_scope

    make_digits(tmp_path, train=10, val=1, size=32, one_digit=True)
    cfg = Config.fromfile(ROOT / f'configs/{config}_one-digit.py').train_dataloader.dataset
    init_default_scope('mmpretrain')
    dataset = DATASETS.build(dict(cfg, data_root=str(tmp_path), pipeline=[]))
    for i in range(len(dataset)):
        entry = dataset.get_data_info(i)
        folder = Path(entry['img_path']).parent.name
        assert dataset.CLASSES[entry['gt_label']] == folder
