"""From a classifier to a detector as a user does it: train one, convert, train the other."""

import json
from pathlib import Path

import pytest
import torch

from mmattn.core.checkpoint import find_state, load_checkpoint
from mmattn.data.digits import make_digits
from tests.commands import ROOT, run_command

pytest.importorskip('mmdet')

CLASSIFIER = str(ROOT / 'configs/demo/resnet18-cbam-dilated_1500i_one-digit.py')
DETECTOR = str(ROOT / 'configs/demo/faster-rcnn_r18-cbam_fpn_150i_digits.py')
ONE_DIGIT, SCENES = 'data/one_digit_16000', 'work_dirs/demo/digits'


def convert(checkpoint, capfd):
    """Run the documented command; returns what it says."""
    capfd.readouterr()
    words = [checkpoint, DETECTOR, 'start.pth', '--out', 'mine.py']
    assert run_command('model_converters/classifier_to_detector.py', *words) == 0
    return capfd.readouterr().out


def last_value(work_dir, name):
    """The last value of a metric in the log of a run."""
    (log,) = Path(work_dir).glob('*/vis_data/scalars.json')
    return [row[name] for row in map(json.loads, log.read_text().splitlines()) if name in row][-1]


@pytest.mark.slow
def test_a_detector_starts_from_a_classifier(train, tmp_path, monkeypatch, capfd):
    pytest.importorskip('mmpretrain', reason='the classifier is one of its')
    monkeypatch.chdir(tmp_path)
    make_digits(ONE_DIGIT, train=40, val=10, size=32, one_digit=True)
    make_digits(SCENES, train=20, val=10, size=96)
    two = ['train_cfg.max_iters=2', 'train_cfg.val_interval=2']
    options = [*two, 'default_hooks.checkpoint.interval=2', 'train_dataloader.batch_size=8']
    assert train([CLASSIFIER, '--work-dir', 'cls', '--cfg-options', *options]) == 0

    said = convert('cls/iter_2.pth', capfd)
    assert 'checkpoint of mmpretrain; backbone: 200 of' in said and 'note:' not in said

    assert train(['mine.py', '--work-dir', 'det', '--cfg-options', *two]) == 0
    assert 'keys fit' in ''.join(capfd.readouterr())
    start, trained = (
        find_state(load_checkpoint(file)) for file in ('start.pth', 'cls/iter_2.pth')
    )
    assert len(start) == 200
    for key, value in start.items():
        torch.testing.assert_close(value, trained[key], rtol=0, atol=0)


@pytest.mark.slow
def test_the_start_pays(train, tmp_path, monkeypatch, capfd):
    """The recipe of docs/pretrained.md, one seed: it trains for about ten minutes of a core."""
    pytest.importorskip('mmpretrain', reason='the classifier is one of its')
    monkeypatch.chdir(tmp_path)
    make_digits(ONE_DIGIT, train=16000, val=200, size=32, one_digit=True)
    make_digits(SCENES, train=1200, val=100)
    assert train([CLASSIFIER, '--work-dir', 'cls']) == 0
    assert last_value('cls', 'accuracy/top1') > 60
    assert 'note:' not in convert('cls/iter_1500.pth', capfd)
    for config, run in ((DETECTOR, 'scratch'), ('mine.py', 'start')):
        assert train([config, '--work-dir', run]) == 0
    ap = {run: last_value(run, 'coco/bbox_mAP') for run in ('scratch', 'start')}
    assert ap['start'] > 2 * ap['scratch'], ap
