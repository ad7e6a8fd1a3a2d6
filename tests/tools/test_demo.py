"""tools/demo.py, on a few small scenes and steps, and its parts."""

import json

import pytest

from .conftest import load_tool

demo = load_tool('demo.py')


def test_the_demo_leaves_all_it_promises(tmp_path, capfd):
    pytest.importorskip('mmdet')
    pytest.importorskip('sklearn')
    root = tmp_path / 'demo'
    root.mkdir()
    (root / 'summary.json').write_text('{"other": {"AP": 1}}')
    args = ['--work-dir', str(root), '--scenes', '8', '--val-scenes', '2', '--steps', '2']
    assert demo.main(args) == 0
    summary = json.loads((root / 'summary.json').read_text())
    assert summary['other'] == {'AP': 1}
    assert set(summary['detection']) == {'AP', 'AP50'}
    found = json.loads((root / 'localization/result/summary.json').read_text())
    assert found['images'] == 2
    assert summary['localization'] == {
        **{key: found[key] for key in ('gt_known', 'top1_loc', 'top5_loc', 'top1_cls')},
        'centre_box': found['baseline']['gt_known'],
    }
    assert 0 <= summary['detection']['AP'] <= 1
    for name in ('predictions.png', 'curves.png'):
        assert (root / name).read_bytes().startswith(b'\x89PNG')
    said = capfd.readouterr().out
    assert said.count('train 2/2') == 2 and 'time left' in said
    assert 'centre box' in said
    assert 'Average Precision  (AP) @[ IoU=0.50:0.95 | area=   all' in said
    assert str(root / 'predictions.png') in said
    assert 'Next, ' in said
    assert said.splitlines()[-1] == f'report: {root}/localization/result/report.html'


def test_a_failed_step_shows_its_words_and_the_log(tmp_path, capsys):
    args = ['--work-dir', str(tmp_path), '--scenes', '0']
    assert demo.main(args) == 1
    said = capsys.readouterr().err
    assert 'make_digits: train must be from 1 to 99999, got 0' in said
    assert f'make_digits.py failed; everything it said is in {tmp_path}/detection.log' in said
    with pytest.raises(demo.Failed, match='the localization half failed'):
        demo.localization(demo.parse_args(['--work-dir', str(tmp_path), '--scenes', '0']))


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
        ('mmengine - INFO - Saving checkpoint at 70 iterations', None),
    ],
    ids=['step', 'validation step', 'figures', 'anything else'],
)
def test_progress_lines(line, shown):
    assert demo.progress(line) == shown


@pytest.mark.parametrize(
    'a, b, expected',
    [
        ([0, 0, 2, 2], [0, 0, 2, 2], 1),
        ([0, 0, 2, 2], [1, 1, 3, 3], 1 / 7),
        ([0, 0, 2, 2], [2, 0, 4, 2], 0),
    ],
    ids=['same', 'one of seven', 'touching'],
)
def test_overlap(a, b, expected):
    assert demo.overlap(a, b) == pytest.approx(expected)


def test_only_the_surest_prediction_of_a_place_is_drawn():
    torch = pytest.importorskip('torch')
    boxes = [[0, 0, 10, 10], [1, 0, 10, 10], [20, 20, 30, 30], [50, 50, 60, 60]]
    found = dict(
        labels=torch.tensor([1, 2, 3, 4]),
        bboxes=torch.tensor(boxes),
        scores=torch.tensor([0.5, 0.75, 0.5, 0.25]),
    )
    kept = demo.surest(found)
    assert [(label, score) for label, _, score in kept] == [(2, 0.75), (3, 0.5)]


def test_only_an_interrupted_training_of_the_same_config_is_resumed(tmp_path):
    pytest.importorskip('mmdet')
    from mmengine.config import Config

    options = ['--cfg-options', 'train_cfg.max_iters=4']
    assert not demo.unfinished(tmp_path, demo.CONFIG, options)
    cfg = Config.fromfile(demo.CONFIG)
    cfg.train_cfg.max_iters = 4
    cfg.dump(tmp_path / demo.CONFIG.name)
    (tmp_path / 'last_checkpoint').write_text('iter_2.pth')
    assert demo.unfinished(tmp_path, demo.CONFIG, options)
    assert not demo.unfinished(tmp_path, demo.CONFIG, ['--cfg-options', 'train_cfg.max_iters=6'])
    (tmp_path / 'iter_4.pth').touch()
    assert not demo.unfinished(tmp_path, demo.CONFIG, options)
