"""tools/train.py and tools/test.py: what they do, and how they end on a user's mistake."""

import json
import pickle
import shutil

import pytest
import torch
from mmengine.fileio import load
from torch import nn

from mmattn.cli import testing, training
from mmattn.cli.run_log import read_scalars
from mmattn.core.config import read_config

from .conftest import write_config

pytest.importorskip('mmdet')


def metrics_of(folder):
    return json.loads(sorted(folder.glob('*/*.json'))[-1].read_text())


def test_training_leaves_checkpoints_scalars_and_the_config(trained):
    config, run = trained
    curves = read_scalars(run)
    assert [step for step, _ in curves['loss']] == [1, 2, 3, 4]
    assert (run / 'iter_4.pth').is_file()
    assert (run / config.name).is_file()
    assert curves['coco/bbox_mAP'][0][0] == 4


def test_resume_goes_on_with_step_weights_and_optimizer(trained, train, tmp_path):
    config, run = trained
    shutil.copytree(run, tmp_path / 'run')
    (tmp_path / 'run' / 'iter_4.pth').unlink()
    (tmp_path / 'run' / 'last_checkpoint').write_text(str(tmp_path / 'run' / 'iter_2.pth'))
    args = [str(config), '--work-dir', str(tmp_path / 'run'), '--resume']
    assert train(args) == 0
    before, after = read_scalars(run), read_scalars(tmp_path / 'run')
    assert [step for step, _ in after['loss']] == [1, 2, 3, 4]
    assert after['lr'] == before['lr']  # the schedule was resumed, not restarted
    newest = sorted((tmp_path / 'run').glob('*/vis_data/scalars.json'))[-1]
    steps = [json.loads(line)['step'] for line in newest.read_text().splitlines()]
    assert steps[0] == 3  # it started after step 2, not at 1


def test_the_scaled_learning_rate_reaches_the_runner(tiny_config, train, tmp_path):
    args = [str(tiny_config), '--work-dir', str(tmp_path / 'run'), '--auto-scale-lr']
    options = ['train_cfg.max_iters=1', 'param_scheduler=None', 'auto_scale_lr.base_batch_size=8']
    assert train([*args, '--cfg-options', *options]) == 0
    curves = read_scalars(tmp_path / 'run')
    assert curves['lr'] == [(1, pytest.approx(1e-3 * 2 / 8))]


@pytest.mark.parametrize('device', ['cuda', 'cpu'])
def test_mixed_precision_reaches_the_optimizer_or_is_refused(
    tiny_config, train, monkeypatch, device
):
    cfg = read_config(tiny_config)
    monkeypatch.setattr(training, 'get_device', lambda: device)
    if device == 'cpu':
        with pytest.raises(ValueError, match='--amp needs a GPU, there is none here'):
            training.apply_options(cfg, amp=True, auto_scale_lr=False)
    else:
        training.apply_options(cfg, amp=True, auto_scale_lr=False)
        assert cfg.optim_wrapper.type == 'AmpOptimWrapper'
        assert cfg.optim_wrapper.loss_scale == 'dynamic'


def test_a_start_from_plain_weights_reports_the_new_keys(trained, train, digits, tmp_path, capfd):
    plain = write_config(tmp_path, digits, 'faster-rcnn_r18_fpn_350i_digits.py')
    options = ['--cfg-options', 'train_cfg.max_iters=2']
    assert train([str(plain), '--work-dir', str(tmp_path / 'plain'), *options]) == 0
    config, _ = trained
    capfd.readouterr()
    args = [str(config), '--work-dir', str(tmp_path / 'run'), *options]
    assert train([*args, f'load_from={tmp_path}/plain/iter_2.pth']) == 0
    said = ''.join(capfd.readouterr())
    assert "of the model's" in said and 'new in the model: neck.lateral_convs.0.conv' in said
    assert 'expected when starting from another network' in said
    assert 'unused: ' not in said


def test_testing_gives_the_figures_of_the_training_and_a_pickle(trained, run_test, tmp_path):
    config, run = trained
    out, shown = tmp_path / 'predictions.pkl', 'painted'
    args = [str(config), str(run / 'iter_4.pth'), '--work-dir', str(tmp_path), '--out', str(out)]
    assert run_test([*args, '--show-dir', shown]) == 0
    assert metrics_of(tmp_path)['coco/bbox_mAP'] == read_scalars(run)['coco/bbox_mAP'][0][1]
    predictions = load(out)
    assert len(predictions) == 4
    assert {'bboxes', 'labels', 'scores'} <= set(predictions[0]['pred_instances'])
    assert len(list(tmp_path.glob(f'*/{shown}/*.jpg'))) == 4


@pytest.mark.parametrize('averaged', [False, True], ids=['plain', 'EMA'])
def test_a_fused_model_predicts_the_same(
    averaged, trained, digits, run_test, tmp_path, monkeypatch
):
    run = trained[1]
    extra = "custom_hooks = [dict(type='EMAHook')]" if averaged else ''
    config = write_config(tmp_path, digits, extra=extra)
    found, fused = [], []
    original = testing.fuse_model
    monkeypatch.setattr(
        testing, 'fuse_model', lambda model, **options: fused.append(original(model, **options))
    )
    for i, options in enumerate(([], ['--fuse'])):
        out = tmp_path / f'{i}.pkl'
        args = [str(config), str(run / 'iter_4.pth'), '--work-dir', str(tmp_path / 'test')]
        assert run_test([*args, '--out', str(out), *options]) == 0
        found.append([sample['pred_instances'] for sample in pickle.loads(out.read_bytes())])
    assert len(fused) == 1
    assert not [m for m in fused[0].modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for plain, other in zip(*found):  # the boxes of a net this little trained are ties
        torch.testing.assert_close(other['scores'], plain['scores'], rtol=1e-4, atol=1e-5)


def test_test_time_augmentation_runs(trained, run_test, tmp_path):
    config, run = trained
    args = [str(config), str(run / 'iter_4.pth'), '--work-dir', str(tmp_path), '--tta']
    assert run_test(args) == 0
    assert 'coco/bbox_mAP' in metrics_of(tmp_path)


# ------------------------------------------------------------------------------- users' mistakes


def last_line(capfd):
    return capfd.readouterr().err.strip().splitlines()[-1]


@pytest.mark.parametrize(
    'options, sentence',
    [
        (['trian_cfg.max_iters=1'], "the config has no 'trian_cfg', did you mean 'train_cfg'?"),
        (
            ['train_dataloader.dataset.ann_fiel=x.json'],
            "CocoDataset has no option 'ann_fiel', did you mean 'ann_file'?",
        ),
        (
            ['train_dataloader.dataset.ann_file=x.json'],
            'x.json does not exist; set data_root and ann_file of this data set',
        ),
        (
            ['val_evaluator.ann_file=x.json'],
            'val_evaluator.ann_file: x.json does not exist; the data set reads',
        ),
        (
            ['model.roi_head.bbox_head.num_classes=9'],
            'has 10 classes, the model num_classes=9: set num_classes of every box head to 10',
        ),
        (['model.neck.type=mmattn.AWFPM'], "type 'mmattn.AWFPM' is not registered; did you mean"),
        (['model.neck.reducton=4'], "has no argument 'reducton'"),
        (['load_from=nowhere.pth'], 'the checkpoint nowhere.pth does not exist'),
    ],
    ids=[
        'misspelt setting',
        'misspelt data option',
        'no annotation file',
        "no evaluator's file",
        'too few classes',
        'misspelt type',
        'misspelt argument',
        'no checkpoint',
    ],
)
def test_a_wrong_setting_ends_in_one_sentence(
    tiny_config, train, tmp_path, capfd, options, sentence
):
    args = [str(tiny_config), '--work-dir', str(tmp_path / 'run'), '--cfg-options', *options]
    assert train(args) == 1
    line = last_line(capfd)
    assert line.startswith('train: ')
    assert sentence in line


def test_a_value_refused_by_a_layer_ends_in_its_sentence_without_a_stack(
    digits, train, tmp_path, capfd
):
    extra = "\nmodel['neck']['conv_cfg'] = dict(type='mmattn.AWConv2d', reduction=0)\n"
    config = write_config(tmp_path, digits, extra=extra)
    assert train([str(config), '--work-dir', str(tmp_path / 'run')]) == 1
    said = capfd.readouterr().err
    assert 'reduction must be >= 1, got 0' in said.splitlines()[-1]
    assert 'Traceback' not in said


def test_a_missing_or_broken_config_ends_in_one_sentence(train, tmp_path, capfd):
    assert train([str(tmp_path / 'no.py')]) == 1
    assert 'no.py does not exist (looked from' in last_line(capfd)
    (tmp_path / 'bad.py').write_text('model = dict(')
    assert train([str(tmp_path / 'bad.py')]) == 1
    assert 'bad.py cannot be read' in last_line(capfd)
    (tmp_path / 'empty.py').write_text('modle = dict()')
    assert train([str(tmp_path / 'empty.py')]) == 1
    assert "empty.py has no model; it has 'modle'" in last_line(capfd)


def test_scaling_the_learning_rate_needs_a_base_batch_size(tiny_config, train, tmp_path, capfd):
    args = [str(tiny_config), '--work-dir', str(tmp_path), '--auto-scale-lr']
    assert train([*args, '--cfg-options', 'auto_scale_lr=None']) == 1
    assert '--auto-scale-lr needs auto_scale_lr=dict(base_batch_size=...)' in last_line(capfd)


@pytest.mark.parametrize(
    'content, problem',
    [(b'', 'the file is empty'), (b'no image at all', 'no image that')],
    ids=['empty', 'garbage'],
)
@pytest.mark.parametrize('checked', [True, False], ids=['found before', 'found in the run'])
def test_an_image_that_cannot_be_decoded_is_named(
    digits, train, tmp_path, capfd, content, problem, checked
):
    shutil.copytree(digits, tmp_path / 'digits')
    bad = tmp_path / 'digits' / 'train' / '00003.jpg'
    bad.write_bytes(content)
    config = write_config(tmp_path, tmp_path / 'digits')
    args = [str(config), '--work-dir', str(tmp_path / 'run')]
    assert train(args + ([] if checked else ['--skip-data-checks'])) == 1
    said = capfd.readouterr().err
    line = said.strip().splitlines()[-1]
    assert f'the image {bad} cannot be used: ' in line
    assert problem in line
    assert ('Traceback' in said) is not checked


def test_a_checkpoint_of_another_config_is_refused_unless_allowed(
    trained, run_test, digits, tmp_path, capfd
):
    _, run = trained
    plain = write_config(tmp_path, digits, 'faster-rcnn_r18_fpn_350i_digits.py')
    args = [str(plain), str(run / 'iter_4.pth'), '--work-dir', str(tmp_path)]
    assert run_test(args) == 1
    line = last_line(capfd)
    assert 'iter_4.pth does not fit the config' in line
    assert 'unused: neck.lateral_convs.0.conv' in line and 'in all)' in line
    assert 'The config lacks parts the checkpoint was trained with' in line
    assert line.endswith('--allow-partial tests it all the same.')
    assert run_test([*args, '--allow-partial']) == 0


def test_resuming_from_another_network_is_refused(trained, train, digits, tmp_path, capfd):
    _, run = trained
    plain = write_config(tmp_path, digits, 'faster-rcnn_r18_fpn_350i_digits.py')
    args = [str(plain), '--work-dir', str(tmp_path / 'x'), '--resume', str(run / 'iter_4.pth')]
    assert train(args) == 1
    assert 'set load_from and leave out --resume' in last_line(capfd)


def test_a_damaged_checkpoint_is_named_as_such(trained, run_test, tmp_path, capfd):
    config, run = trained
    half = tmp_path / 'half.pth'
    half.write_bytes((run / 'iter_4.pth').read_bytes()[:5000])
    assert run_test([str(config), str(half), '--work-dir', str(tmp_path)]) == 1
    assert f'the checkpoint {half} cannot be read, its file is damaged' in last_line(capfd)


def test_a_pickle_that_is_no_checkpoint_is_refused(trained, run_test, tmp_path, capfd):
    import torch

    config, _ = trained
    torch.save({'epoch': 3, 'note': 'no weights'}, tmp_path / 'odd.pth')
    assert run_test([str(config), str(tmp_path / 'odd.pth'), '--work-dir', str(tmp_path)]) == 1
    assert 'must hold a state dict of tensors, got a dict of: epoch, note' in last_line(capfd)


@pytest.mark.parametrize(
    'args, message',
    [
        (['c.py', 'x.pth', '--out', 'p.json'], '--out must end in .pkl or .pickle, got p.json'),
        (['c.py'], 'the following arguments are required: checkpoint'),
    ],
    ids=['pickle name', 'no checkpoint'],
)
def test_wrong_usage_of_the_test_tool(run_test, capfd, args, message):
    assert run_test(args) == 2
    assert message in capfd.readouterr().err


def test_the_help_never_says_gpus_dash_dash(train, run_test, capfd):
    """``mim`` passes the options of mmdet 2 to a tool whose help has them."""
    for tool in (train, run_test):
        assert tool(['-h']) == 0
    said = capfd.readouterr().out
    assert '--work-dir' in said
    assert '--gpus' not in said


def test_training_stops_at_a_loss_that_is_no_number(tiny_config, train, tmp_path, capfd):
    args = [str(tiny_config), '--work-dir', str(tmp_path / 'run')]
    assert train([*args, '--cfg-options', 'optim_wrapper.optimizer.lr=1e30']) == 1
    said = capfd.readouterr().err
    line = said.strip().splitlines()[-1]
    assert line.startswith('train: ') and 'at step 2 (epoch 1)' in line
    assert 'no checkpoint was saved yet' in line and 'Traceback' not in said
    log = next((tmp_path / 'run').glob('*/*.log')).read_text()
    assert 'FloatingPointError: ' in log and 'Traceback' in log  # the log file has it all


def test_bad_weights_are_refused_by_the_test_tool(trained, run_test, tmp_path, capfd):
    config, run = trained
    saved = torch.load(run / 'iter_4.pth', weights_only=False)
    saved['state_dict']['backbone.conv1.weight'][0] = float('nan')
    torch.save(saved, tmp_path / 'nan.pth')
    args = [str(config), str(tmp_path / 'nan.pth'), '--work-dir', str(tmp_path)]
    assert run_test(args) == 1
    assert 'nan.pth holds NaN or infinity in 1 tensors (backbone.conv1.weight)' in last_line(capfd)


def test_resuming_takes_the_newest_whole_checkpoint(trained, train, tmp_path, capfd):
    config, run = trained
    shutil.copytree(run, tmp_path / 'copy')
    newest = tmp_path / 'copy' / 'iter_4.pth'
    newest.write_bytes(newest.read_bytes()[:5000])
    args = [str(config), '--work-dir', str(tmp_path / 'copy'), '--resume']
    assert train(args) == 0
    said = ''.join(capfd.readouterr())
    assert f'resuming from {tmp_path}/copy/iter_2.pth' in said
    assert torch.load(newest, weights_only=False)['meta']['iter'] == 4


def test_a_checkpoint_with_code_is_refused_unless_trusted(trained, run_test, tmp_path, capfd):
    config, run = trained
    saved = torch.load(run / 'iter_4.pth', weights_only=False)
    torch.save({**saved, 'extra': nn.Linear(1, 1)}, tmp_path / 'more.pth')
    args = [str(config), str(tmp_path / 'more.pth'), '--work-dir', str(tmp_path)]
    assert run_test(args) == 1
    assert 'more.pth holds more than weights: reading it would call ' in last_line(capfd)
    assert run_test([*args, '--trust']) == 0


def test_an_init_cfg_that_loads_nothing_ends_before_training(digits, train, tmp_path, capfd):
    torch.save({'backbone.conv1.weight': torch.ones(8, 3, 7, 7)}, tmp_path / 'plain.pth')
    extra = (
        "\nmodel['backbone']['init_cfg'] = dict(_delete_=True, type='Pretrained', "
        f"checkpoint='{tmp_path}/plain.pth')\n"
    )
    config = write_config(tmp_path, digits, extra=extra)
    assert train([str(config), '--work-dir', str(tmp_path / 'run')]) == 1
    line = last_line(capfd)
    assert "plain.pth would be loaded. Its keys would fit without 'backbone.' in front" in line
    assert "prefix='backbone.'" in line


def test_predictions_are_plain_data(trained, run_test, tmp_path):
    """A pickle others can read: tensors, numbers and strings only."""
    config, run = trained
    out = tmp_path / 'p.pkl'
    args = [str(config), str(run / 'iter_4.pth'), '--work-dir', str(tmp_path), '--out', str(out)]
    assert run_test(args) == 0
    with open(out, 'rb') as file:
        scene = pickle.load(file)[0]
    assert type(scene) is dict
    assert scene['img_id'] == 1
