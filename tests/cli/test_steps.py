"""Steps of a longer command: what is shown of them, how they fail, what is resumed."""

import io

import pytest
from mmengine.config import Config

from mmattn.cli.steps import StepFailed, progress, run_step, unfinished
from tests.commands import ROOT

CONFIG = ROOT / 'configs/demo/faster-rcnn_r18_aw-fpn_350i_digits.py'


@pytest.mark.parametrize(
    'line, shown',
    [
        (
            '11/21 11:30:27 - mmengine - INFO - Iter(train) [ 10/350]  lr: 2.3846e-04  '
            'eta: 0:09:19  time: 1.2723  loss: 2.6438  loss_rpn_cls: 0.6584',
            '  train 10/350  loss 2.6438  time left 0:09:19',
        ),
        (
            'x INFO - Iter(val) [25/25]    eta: 0:00:00  time: 0.1',
            '  val 25/25  time left 0:00:00',
        ),
        (
            'Iter(val) [25/25]    coco/bbox_mAP: 0.0400  coco/bbox_mAP_50: 0.1060  time: 0.6',
            '  validation: AP 0.0400, AP50 0.1060',
        ),
        (
            'Iter(val) [10/10]    accuracy/top1: 82.6667  data_time: 0.0021  time: 0.0240',
            '  82.7 % of the validation images classified right',
        ),
        (
            'INFO - Epoch(train)  [2][20/94]  lr: 1.0e-03  eta: 0:00:09  loss: 2.1',
            '  train 20/94  loss 2.1  time left 0:00:09',
        ),
        ('mmengine - INFO - Saving checkpoint at 70 iterations', None),
    ],
    ids=['step', 'validation step', 'figures', 'accuracy', 'epochs', 'anything else'],
)
def test_progress_lines(line, shown):
    assert progress(line) == shown


def step(tmp_path, code):
    script, log = tmp_path / 'step.py', tmp_path / 'all.log'
    script.write_text(code)
    return script, log


def test_a_step_shows_progress_and_logs_everything(tmp_path, capsys):
    table = ' Average Precision  (AP) @[ IoU=0.50:0.95 ] = 0.5'
    said = ['loading', 'Iter(train) [ 1/2]  loss: 2.0', table]
    script, log = step(tmp_path, f'import sys\nfor line in {said!r} + sys.argv[1:]: print(line)')
    assert run_step([script, 'word'], log) == [table.strip()]
    assert capsys.readouterr().out == '  train 1/2  loss 2.0\n'
    assert log.read_text().splitlines() == [*said, 'word']


def test_on_a_terminal_steps_are_a_bar_and_the_rest_lines(tmp_path, monkeypatch):
    pytest.importorskip('rich')
    screen = io.StringIO()
    screen.isatty = lambda: True
    monkeypatch.setattr('sys.stdout', screen)
    monkeypatch.setenv('TERM', 'xterm')
    monkeypatch.setenv('COLUMNS', '100')
    figures = 'Iter(val) [10/10]    accuracy/top1: 82.6667  data_time: 0.0021  time: 0.0240'
    said = ['Iter(train) [ 1/2]  loss: 2.0', 'Iter(train) [ 2/2]  loss: 1.5', figures]
    script, log = step(tmp_path, f'for line in {said!r}: print(line)')
    run_step([script], log)
    bar, _, rest = screen.getvalue().rpartition('\x1b[?25h')  # the cursor is there again
    assert '2/2' in bar
    assert 'loss 1.5' in bar
    assert rest.splitlines()[-1] == '  82.7 % of the validation images classified right'
    assert 'classified' not in bar


def test_a_failed_step_ends_with_its_own_words(tmp_path):
    script, log = step(tmp_path, 'raise SystemExit("no such thing")')
    with pytest.raises(StepFailed, match=r'no such thing\n\nstep.py failed; everything it said'):
        run_step([script], log)
    assert log.read_text() == 'no such thing\n'


def test_only_an_interrupted_training_of_the_same_config_is_resumed(tmp_path):
    pytest.importorskip('mmdet')
    options = ['--cfg-options', 'train_cfg.max_iters=4']
    assert not unfinished(tmp_path, CONFIG, options)
    cfg = Config.fromfile(CONFIG)
    cfg.train_cfg.max_iters = 4
    cfg.dump(tmp_path / CONFIG.name)
    (tmp_path / 'last_checkpoint').write_text('iter_2.pth')
    assert unfinished(tmp_path, CONFIG, options)
    assert not unfinished(tmp_path, CONFIG, ['--cfg-options', 'train_cfg.max_iters=6'])
    (tmp_path / 'iter_4.pth').touch()
    assert not unfinished(tmp_path, CONFIG, options)
