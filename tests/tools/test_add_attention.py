"""tools/add_attention.py, and --attention of tools/train.py and tools/test.py."""

import json

import pytest
import torch
from mmengine.config import Config

from tests.commands import run_command
from tests.tools.conftest import write_config

pytest.importorskip('mmdet')

PLAIN = 'faster-rcnn_r18_fpn_350i_digits.py'
METHODS = ['CBAM', 'BAM', 'SSIA']


def add_attention(*words):
    return run_command('add_attention.py', *words)


@pytest.fixture(scope='module')
def plain(train, digits, tmp_path_factory):
    """Config and checkpoint of a plain detector after two steps."""
    folder = tmp_path_factory.mktemp('plain')
    config = write_config(folder, digits, PLAIN)
    args = [
        str(config),
        '--work-dir',
        str(folder / 'run'),
        '--cfg-options',
        'train_cfg.max_iters=2',
    ]
    assert train(args) == 0
    return config, folder / 'run' / 'iter_2.pth'


def test_a_warm_start_is_the_plain_network(plain, train, tmp_path, capfd):
    config, checkpoint = plain
    out, start = tmp_path / 'leaf.py', tmp_path / 'start.pth'
    args = [str(config), *METHODS, '-o', str(out), '--checkpoint', str(checkpoint)]
    assert add_attention(*args, '--save', str(start)) == 0
    said = capfd.readouterr().out
    assert 'init=identity' in said
    assert 'largest difference to the plain network: 0 (raw outputs for 2 images of' in said
    assert 'torch.Size' not in said  # mmengine's log of initial values
    assert Config.fromfile(out).load_from == str(start)
    capfd.readouterr()
    options = ['--cfg-options', 'train_cfg.max_iters=2']
    assert train([str(out), '--work-dir', str(tmp_path / 'run'), *options]) == 0
    assert 'keys fit' in ''.join(capfd.readouterr())


def test_another_order_of_sums_is_called_rounding(plain, capfd):
    config, checkpoint = plain
    assert add_attention(str(config), 'AWConv2d', 'AWFPN', '--checkpoint', str(checkpoint)) == 0
    (line,) = [x for x in capfd.readouterr().out.splitlines() if 'largest difference' in x]
    assert 'network: 0 (' in line or 'rounding of float32' in line


def test_a_start_that_is_not_plain_is_seen(plain, tmp_path, capfd):
    config, checkpoint = plain
    args = [str(config), 'CBAM', '--checkpoint', str(checkpoint), '--init', 'paper']
    assert add_attention(*args) == 0
    (line,) = [x for x in capfd.readouterr().out.splitlines() if 'largest difference' in x]
    assert 'not the same network' in line


def test_a_checkpoint_of_another_network_is_refused(plain, tmp_path, capfd):
    torch.save(dict(state_dict=dict(other=torch.zeros(1))), tmp_path / 'other.pth')
    args = [str(plain[0]), 'CBAM', '--checkpoint', str(tmp_path / 'other.pth')]
    assert add_attention(*args) == 1
    assert 'is not of the plain config' in capfd.readouterr().err


def test_train_and_test_take_the_methods(plain, train, run_test, tmp_path, capfd):
    config, _ = plain
    run = tmp_path / 'run'
    options = ['--cfg-options', 'train_cfg.max_iters=2']
    args = [str(config), '--work-dir', str(run), '--attention', 'SE', *options]
    assert train(args) == 0
    assert 'backbone.layer1.{0-1}.se' in capfd.readouterr().out
    state = torch.load(run / 'iter_2.pth', weights_only=False)['state_dict']
    assert 'backbone.layer1.0.se.fc1.weight' in state
    args = [str(config), str(run / 'iter_2.pth'), '--work-dir', str(tmp_path / 'test')]
    assert run_test([*args, '--attention', 'SE']) == 0
    assert run_test(args) == 1  # the plain config is refused


def test_test_reads_from_the_checkpoint_how_the_methods_started(plain, train, run_test, tmp_path):
    config, checkpoint = plain
    run = tmp_path / 'run'
    options = ['--cfg-options', 'train_cfg.max_iters=1', f'load_from={checkpoint}']
    args = [str(config), '--work-dir', str(run), '--attention', 'SE', *options]
    assert train(args) == 0
    args = [str(config), str(run / 'iter_1.pth'), '--work-dir', str(tmp_path / 'test')]
    assert run_test([*args, '--attention', 'SE']) == 0


def test_the_list_names_every_method(capsys):
    assert add_attention('--list') == 0
    said = capsys.readouterr().out
    assert 'NonLocal' in said and 'before the last block of C4' in said


@pytest.mark.parametrize(
    'args, sentence',
    [
        (['nowhere.py', 'SE'], 'nowhere.py does not exist'),
        (['mmdet::retinanet/nothing.py', 'SE'], 'nothing.py'),
        (['mmdet::retinanet/retinanet_r50_fpn_1x_coco.py', 'CBMA'], "did you mean 'CBAM'"),
    ],
)
def test_mistakes_end_in_a_sentence(args, sentence, capfd):
    assert add_attention(*args) == 1
    said = capfd.readouterr().err
    assert sentence in said.splitlines()[-1] and 'Traceback' not in said


OVERFIT = """
seen = dict(
    data_root='{data}',
    ann_file='annotations/instances_train.json',
    data_prefix=dict(img='train/'),
    pipeline=pipeline,
)
val_dataloader = dict(batch_size=2, dataset=seen)
test_dataloader = dict(batch_size=2, dataset=seen)
val_evaluator = dict(ann_file='{data}/annotations/instances_train.json')
test_evaluator = dict(ann_file='{data}/annotations/instances_train.json')
train_cfg = dict(max_iters=120, val_interval=120)
default_hooks = dict(logger=dict(interval=40), checkpoint=dict(interval=120))
"""


@pytest.fixture(scope='module')
def overfit(train, run_test, digits, tmp_path_factory):
    """Config, checkpoint and figures of a plain detector that knows its few images."""
    folder = tmp_path_factory.mktemp('overfit')
    config = write_config(folder, digits, PLAIN, OVERFIT.format(data=digits))
    assert train([str(config), '--work-dir', str(folder / 'run')]) == 0
    checkpoint = folder / 'run' / 'iter_120.pth'
    return config, checkpoint, figures(run_test, config, checkpoint, folder / 'test')


def figures(run_test, config, checkpoint, folder):
    assert run_test([str(config), str(checkpoint), '--work-dir', str(folder)]) == 0
    found = json.loads(sorted(folder.glob('*/*.json'))[-1].read_text())
    return {key: value for key, value in found.items() if 'mAP' in key}


@pytest.mark.slow
@pytest.mark.parametrize('method', ['CBAM', 'AWConv2d', 'AWFPN', 'TDAM', 'SSIA'])
def test_a_warm_start_has_the_figures_of_the_plain_network(
    method, run_test, overfit, tmp_path, capfd
):
    config, checkpoint, plain = overfit
    assert plain['coco/bbox_mAP_50'] > 0.05
    out, start = tmp_path / 'leaf.py', tmp_path / 'start.pth'
    args = [str(config), method, '-o', str(out), '--checkpoint', str(checkpoint)]
    assert add_attention(*args, '--save', str(start)) == 0
    assert figures(run_test, out, start, tmp_path / 'test') == plain
