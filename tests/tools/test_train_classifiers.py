"""Classifiers of mmpretrain by tools/train.py and tools/test.py, on generated images."""

import json

import pytest
import torch

pytest.importorskip('mmpretrain')

from mmattn.core.checkpoint import load_checkpoint
from tests.commands import ROOT
from tests.data.sets import image

TDAM = ROOT / 'configs/tdam'
SMALL = ['train_dataloader.batch_size=2', 'val_dataloader.batch_size=2', 'train_cfg.max_epochs=1']
NO_DOWNLOAD = ['model.backbone.init_cfg=None', 'val_dataloader.num_workers=0']


def write_cub(root):
    """Four images to train and two to test, in the layout of CUB-200-2011."""
    lines = {'images.txt': [], 'image_class_labels.txt': [], 'train_test_split.txt': []}
    for i in range(1, 7):
        name = f'{i:03}.Bird/{i}.jpg'
        image(root / 'images' / name, (60, 50))
        for rows, value in zip(lines.values(), (name, 30 * i, int(i < 5))):
            rows.append(f'{i} {value}')
    for file, rows in lines.items():
        (root / file).write_text('\n'.join(rows) + '\n')


def write_dogs(root):
    """Four images to train and two to test, named in the text files of the Dogs configs."""
    names = [f'n{i}-Dog/{i}.jpg' for i in range(6)]
    for name in names:
        image(root / 'Images' / name, (60, 50))
    rows = [f'{name} {20 * i}\n' for i, name in enumerate(names)]
    (root / 'train.txt').write_text(''.join(rows[:4]))
    (root / 'test.txt').write_text(''.join(rows[4:]))


@pytest.mark.slow
@pytest.mark.parametrize(
    'config, write, folder',
    [
        ('td-resnet50-joint-t2m1-wsdan_1xb16-80e_cub.py', write_cub, 'CUB_200_2011'),
        ('td-resnet50-top-t2m3-wsdan_1xb16-80e_stanford-dogs.py', write_dogs, 'stanford_dogs'),
    ],
    ids=['cub', 'dogs'],
)
def test_two_steps_of_wsdan(config, write, folder, train, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / 'data' / folder)
    options = [
        *SMALL,
        *NO_DOWNLOAD,
        'train_dataloader.num_workers=0',
        'default_hooks.logger.interval=1',
    ]
    assert train([str(TDAM / config), '--work-dir', 'run', '--cfg-options', *options]) == 0
    said = ''.join(capfd.readouterr())
    assert '[1][2/2]' in said and 'accuracy/top5' in said
    for name in ('whole', 'crop', 'drop', 'centre'):
        assert f'loss_{name}: ' in said
    state = load_checkpoint('run/epoch_1.pth')['state_dict']
    moved = state['head.centres'].abs().sum(1).nonzero().flatten().tolist()
    assert len(moved) == 4  # of the four images' classes
    assert all(torch.isfinite(value).all() for value in state.values())


@pytest.mark.slow
def test_every_step_is_scored_into_a_file(
    train, run_test, make_digits, tmp_path, monkeypatch, capfd
):
    monkeypatch.chdir(tmp_path)
    make_digits('data/one_digit', train=20, val=10, size=32, one_digit=True)
    config = str(TDAM / 'td-resnet18-joint-t2m2_20e_one-digit.py')
    options = ['train_cfg.max_epochs=1', 'default_hooks.checkpoint.interval=1']
    assert train([config, '--work-dir', 'run', '--cfg-options', *options]) == 0
    capfd.readouterr()
    options = ['model.type=mmattn.StepClassifier', 'model.rule=union']
    options += ['test_evaluator.type=mmattn.StepAccuracy', 'test_evaluator.file=out/steps.json']
    words = [config, 'run/epoch_1.pth', '--work-dir', 'run', '--cfg-options', *options]
    assert run_test(words) == 0
    said = ''.join(capfd.readouterr())
    for row in ('step_1_top1', 'step_2_top1', 'confident_top1', 'union_top1', 'union_several'):
        assert f'steps/{row}: ' in said
    written = json.loads((tmp_path / 'out/steps.json').read_text())
    assert [step['images'] for step in written['steps']] == [10, 10]
    each = [step['top1_cls'] for step in written['steps']]
    assert max(each) <= written['union']['top1_cls'] <= min(sum(each), 1)
    assert f'steps/step_2_top1: {100 * each[1]:.4f}' in said
