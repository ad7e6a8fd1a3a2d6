"""Train with SSIA, deploy through the plain config: the tools, start to end."""

import json

import pytest
import torch

from .conftest import ROOT, write_config

pytest.importorskip('mmdet')


def wrap(plain, taps=(0, 1, 2, 3)):
    """A config of SSIA beside a plain one, in the nested form."""
    path = plain.with_name(f'{plain.stem}_ssia.py')
    path.write_text(
        f"_base_ = '{plain}'\n"
        f"model = dict(_delete_=True, type='mmattn.SSIA', model=_base_.model, taps={taps},\n"
        '    sample=(3, 64, 64))\n'
        "custom_hooks = [dict(type='mmattn.SSIAHook')]\n"
    )
    return path


def metrics(folder):
    (file,) = folder.glob('*/*.json')
    return json.loads(file.read_text())


def test_train_resume_and_deploy(train, run_test, digits, tmp_path, capsys):
    plain = write_config(tmp_path, digits, 'faster-rcnn_r18_fpn_350i_digits.py')
    config, run = wrap(plain), tmp_path / 'run'
    assert train([str(config), '--work-dir', str(run)]) == 0
    curves = (next(run.glob('*/vis_data/scalars.json'))).read_text()
    assert '"loss_ssia_2_channel"' in curves
    last = run / 'iter_4.pth'
    options = ['train_cfg.max_iters=6', 'train_cfg.val_interval=6']
    again = [str(config), '--work-dir', str(run), '--resume', '--cfg-options', *options]
    assert train(again) == 0
    saved = torch.load(run / 'iter_6.pth', weights_only=False)
    assert int(saved['ssia']['iteration']) == 6
    assert not [key for key in saved['state_dict'] if 'ssia' in key]
    capsys.readouterr()
    values = {}
    for name, path in dict(plain=plain, wrapped=config).items():
        words = [str(path), str(last), '--work-dir', str(tmp_path / name)]
        assert run_test(words) == 0
        assert 'keys fit' in capsys.readouterr().out
        values[name] = metrics(tmp_path / name)['coco/bbox_mAP']
    assert values['plain'] == values['wrapped']


@pytest.mark.slow
def test_a_detector_learns_the_digit_scenes(train, run_test, make_digits, tmp_path):
    make_digits(tmp_path / 'digits', train=64, val=16)
    roots = [
        f'{s}_dataloader.dataset.data_root={tmp_path}/digits/' for s in ('train', 'val', 'test')
    ]
    files = [
        f'{s}_evaluator.ann_file={tmp_path}/digits/annotations/instances_val.json'
        for s in ('val', 'test')
    ]
    config = ROOT / 'configs/ssia/faster-rcnn_r18-ssia_fpn_350i_digits.py'
    short = ['train_cfg.max_iters=120', 'train_cfg.val_interval=120', 'param_scheduler=None']
    words = [str(config), '--work-dir', str(tmp_path / 'run'), '--cfg-options', *roots, *files]
    assert train([*words, *short]) == 0
    plain = ROOT / 'configs/demo/faster-rcnn_r18_fpn_350i_digits.py'
    checkpoint = tmp_path / 'run' / 'iter_120.pth'
    words = [str(plain), str(checkpoint), '--work-dir', str(tmp_path / 'test'), '--cfg-options']
    assert run_test([*words, *roots, *files]) == 0
    assert metrics(tmp_path / 'test')['coco/bbox_mAP_50'] > 0.05  # no training, but not dead


@pytest.mark.slow
def test_a_classifier_learns_one_digit(train, run_test, make_digits, tmp_path):
    """128 scenes by heart; a few hundred steps from scratch are too few to learn digits."""
    pytest.importorskip('mmpretrain', reason='a classifier')
    make_digits(tmp_path / 'digits', train=128, val=16, size=32, one_digit=True)
    options = [
        f'{s}_dataloader.dataset.data_root={tmp_path}/digits' for s in ('train', 'val', 'test')
    ]
    options += ['test_dataloader.dataset.data_prefix=train', 'train_cfg.max_epochs=60']
    options += ['train_cfg.val_interval=60', 'param_scheduler=None']
    strides = 'backbone.strides=(1,2,2,2)'  # a fifth of the time
    config = ROOT / 'configs/ssia/resnet18-ssia_20e_one-digit.py'
    words = [str(config), '--work-dir', str(tmp_path / 'run'), '--cfg-options', *options]
    assert train([*words, f'model.{strides}']) == 0
    plain = ROOT / 'configs/ssia/resnet18_20e_one-digit.py'
    checkpoint = tmp_path / 'run' / 'epoch_60.pth'
    words = [str(plain), str(checkpoint), '--work-dir', str(tmp_path / 'test'), '--cfg-options']
    assert run_test([*words, *options, f'model.{strides}']) == 0
    assert metrics(tmp_path / 'test')['accuracy/top1'] > 50  # by chance 10
