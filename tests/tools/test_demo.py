"""tools/demo.py, on a few small scenes and steps."""

import json

import pytest

from tests.commands import run_command


def test_the_demo_leaves_all_it_promises(tmp_path, capfd):
    pytest.importorskip('mmdet')
    pytest.importorskip('mmpretrain')
    pytest.importorskip('sklearn')
    root = tmp_path / 'demo'
    root.mkdir()
    (root / 'summary.json').write_text('{"other": {"AP": 1}}')
    args = ['--work-dir', str(root), '--scenes', '8', '--val-scenes', '2', '--steps', '2']
    assert run_command('demo.py', *args) == 0
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
    assert 'of the validation images classified right' in said
    assert 'centre box' in said
    assert 'Average Precision  (AP) @[ IoU=0.50:0.95 | area=   all' in said
    assert str(root / 'predictions.png') in said
    assert 'Next, ' in said
    assert said.splitlines()[-1] == f'report: {root}/localization/result/report.html'


def test_a_failed_step_shows_its_words_and_the_log(tmp_path, capsys):
    args = ['--work-dir', str(tmp_path), '--scenes', '0']
    assert run_command('demo.py', *args) == 1
    said = capsys.readouterr().err
    assert 'make_digits: train must be from 1 to 99999, got 0' in said
    assert f'make_digits.py failed; everything it said is in {tmp_path}/detection.log' in said
