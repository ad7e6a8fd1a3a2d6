"""Real images, COCO's and VOC's layout: train, kill, resume, test; 8 images learned by heart.

Needs ../shared/data, or the folder that MMATTN_SHARED_DATA names, with coco_mini and voc_mini.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmattn.cli.run_log import child_environment, read_scalars

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get('MMATTN_SHARED_DATA', ROOT.parent / 'shared' / 'data'))
STEPS, KILLED_AFTER, EVERY = 240, 40, 20  # the configs' steps; a checkpoint lies at each 20th


def data_folder(name):
    if not (SHARED / name).is_dir():
        pytest.skip(f'{SHARED / name} is not there (MMATTN_SHARED_DATA names another folder)')
    return SHARED / name


def command(tool, config, *args, data):
    options = [f'{s}_dataloader.dataset.data_root={data}' for s in ('train', 'val', 'test')]
    tool = ROOT / 'tools' / tool
    return [sys.executable, '-u', *map(str, (tool, config, *args)), '--cfg-options', *options]


def train_and_kill(words, run, log):
    """Start the training and kill it, without mercy, once it is past some steps."""
    with open(log, 'w') as file:
        process = subprocess.Popen(
            words, stdout=file, stderr=subprocess.STDOUT, env=child_environment(), cwd=run.parent
        )
    try:
        while process.poll() is None:
            steps = [step for step, _ in read_scalars(run).get('loss', [])]
            if (run / 'last_checkpoint').is_file() and max(steps, default=0) > KILLED_AFTER:
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.2)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == -signal.SIGKILL, log.read_text()[-3000:]


def run_to_the_end(words, cwd):
    done = subprocess.run(words, env=child_environment(), cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize('layout, folder', [('coco', 'coco_mini'), ('voc', 'voc_mini')])
def test_eight_images_are_overfitted_through_a_kill(layout, folder, tmp_path):
    pytest.importorskip('mmdet')
    data = data_folder(folder)
    config = ROOT / 'configs' / 'demo' / f'faster-rcnn_r18_aw-fpn_{STEPS}i_{layout}-8.py'
    run = tmp_path / 'run'
    train = command('train.py', config, '--work-dir', run, data=data)
    train_and_kill(train, run, tmp_path / 'first.log')
    before = dict(read_scalars(run)['loss'])
    log = run_to_the_end([*train[:4], '--resume', *train[4:]], tmp_path)
    assert 'resumed epoch' in log.lower()

    parts = sorted(run.glob('*/vis_data/scalars.json'))
    assert len(parts) == 2
    resumed = [json.loads(line) for line in parts[1].read_text().splitlines()]
    curve = [(entry['step'], entry['loss']) for entry in resumed if 'loss' in entry]
    assert curve[0][0] > EVERY  # not from the start
    assert curve[-1][0] == STEPS
    early = before[min(before)]
    assert curve[0][1] < 0.8 * early  # the loss resumes where it was, far below the start
    assert curve[-1][1] < 0.5 * early

    last = run / f'iter_{STEPS}.pth'
    run_to_the_end(
        command('test.py', config, last, '--work-dir', tmp_path / 'test', data=data), tmp_path
    )
    figures = json.loads(next((tmp_path / 'test').glob('*/*.json')).read_text())
    assert figures['coco/bbox_mAP_50'] >= 0.8
    if layout == 'voc':
        assert figures['pascal_voc/AP50'] >= 0.8


@pytest.mark.slow
def test_the_boxes_of_no_size_in_bccd_are_found_and_the_way_out_works():
    pytest.importorskip('mmdet')
    from mmengine.config import Config

    from mmattn.data.checks import check_data

    cfg = Config.fromfile(ROOT / 'configs' / 'bccd' / 'faster-rcnn_r18_fpn_10e_bccd.py')
    for loader in (cfg.train_dataloader, cfg.test_dataloader):
        loader.dataset.data_root = str(data_folder('bccd'))
    assert check_data(cfg, ('train', 'test')) == []
    cfg.train_dataloader.dataset.filter_cfg = None
    with pytest.raises(
        ValueError, match=r'RBC \[181, 329, 181, 329\] in .*BloodImage_00343\.xml; leave them out'
    ):
        check_data(cfg, ('train',))
    cfg.test_dataloader.dataset.ann_file = 'ImageSets/Main/val.txt'
    (note,) = check_data(cfg, ('test',))
    assert 'RBC [504, 337, 504, 337]' in note and 'BloodImage_00338.xml' in note


@pytest.mark.slow
def test_the_mini_sets_pass_the_data_checks():
    pytest.importorskip('mmdet')
    from mmengine.config import Config

    from mmattn.data.checks import check_data

    for layout, folder in (('coco', 'coco_mini'), ('voc', 'voc_mini')):
        name = f'faster-rcnn_r18_aw-fpn_{STEPS}i_{layout}-8.py'
        cfg = Config.fromfile(ROOT / 'configs' / 'demo' / name)
        for split in ('train', 'val', 'test'):
            cfg[f'{split}_dataloader'].dataset.data_root = str(data_folder(folder))
        assert check_data(cfg, ('train', 'val', 'test')) == []
