"""The localization half of the demo, on few scenes."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]


def load_demo():
    pytest.importorskip('mmdet', reason='the demo network is built on mmdet')
    path = ROOT / 'tools/demo_localization.py'
    spec = importlib.util.spec_from_file_location('demo_localization', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_network_gives_fine_maps_in_closed_form():
    from mmattn.localization.cam import ScoreMaps

    demo = load_demo()
    with ScoreMaps(demo.DigitClassifier()) as maps:
        out = maps(torch.randn(2, 3, demo.SIZE, demo.SIZE), torch.tensor([1, 2]))
        assert maps.analytic
    assert out.maps.shape[-2:] == (demo.SIZE // 4, demo.SIZE // 4)
    assert any('cbam' in name for name, _ in maps.model.named_parameters())


def test_too_few_scenes(tmp_path):
    cv2 = pytest.importorskip('cv2')
    import numpy as np

    demo = load_demo()
    for split in ('train', 'val'):
        (tmp_path / split / 'two').mkdir(parents=True)
        cv2.imwrite(str(tmp_path / split / 'two/1.jpg'), np.zeros((48, 48, 3), np.uint8))
    with pytest.raises(ValueError, match='scenes must be at least 32, got 1'):
        demo.train(tmp_path, tmp_path / 'x.pth', 1)


@pytest.mark.slow
def test_all_steps(tmp_path, capfd):
    pytest.importorskip('sklearn', reason='the digits come with scikit-learn')
    demo = load_demo()
    args = ['--work-dir', str(tmp_path), '--scenes', '96', '--val-scenes', '30', '--epochs', '1']
    assert demo.main(args) == 0
    out = capfd.readouterr().out
    assert 'gt_known' in out
    assert 'centre box' in out
    assert f'report: {tmp_path}/localization/result/report.html' in out
    summary = json.loads((tmp_path / 'localization/result/summary.json').read_text())
    assert summary['images'] == 30
    assert demo.main(args) == 0  # again, in place
