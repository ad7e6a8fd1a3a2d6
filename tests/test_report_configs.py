"""The autoencoder report's rows: parameters to the digit, the heads, the split, one step."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS, MODELS, init_default_scope
from torch.nn import functional as F

pytest.importorskip('mmpretrain', reason='classifiers')

from mmattn.backbones import ReportCNN

FOLDER = Path(__file__).parent.parent / 'configs' / 'autoencoder_report'
PARAMETERS = {  # counted in the published code, but for those of the text's variants
    'report-cnn': 2625866,
    'report-cnn-eca': 2625878,
    'report-cnn-cbam': 2628830,
    'report-cnn-cbam-4': 2631794,
    'report-cnn-3-stages': 1677130,
    'report-cnn-idle-stage': 3512138,
    'report-cnn-conv-autoencoder': 2918570,
    'report-cnn-eca-conv-autoencoder': 2918582,
    'report-cnn-linear-autoencoder': 2722260,
    'report-cnn-eca-linear-autoencoder': 2722272,
    'report-cnn-eca-spatial': 2626072,
    'report-cnn-eca-spatial-4': 2626278,
}


def build(name):
    cfg = Config.fromfile(FOLDER / f'{name}_10e_cifar10.py')
    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    return MODELS.build(cfg.model)


@pytest.mark.parametrize('name', PARAMETERS)
def test_a_row_has_its_parameters_and_trains(name):
    model = build(name)
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[name]
    model.init_weights()
    from mmpretrain.structures import DataSample

    images = torch.randn(2, 3, 32, 32)
    samples = [DataSample().set_gt_label(label) for label in (3, 7)]
    loss = model(images, samples, mode='loss')['loss']
    loss.backward()
    idle = [n for n, p in model.named_parameters() if p.grad is None]
    assert loss.isfinite()
    assert all(name.startswith('backbone.stage3') for name in idle)
    assert bool(idle) == ('idle' in name)


@pytest.mark.parametrize('name', ['report-cnn', 'report-cnn-eca'])
def test_the_published_head_is_the_plain_one_behind_relu_and_softmax(name):
    published, plain = build(name).eval(), build(f'{name}-plain-head').eval()
    plain.load_state_dict(published.state_dict())
    images = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        scores, logits = (model(images, mode='tensor') for model in (published, plain))
    torch.testing.assert_close(scores, F.softmax(F.relu(logits), 1))


def test_every_row_has_both_heads():
    names = {path.stem.replace('_10e_cifar10', '') for path in FOLDER.glob('*.py')}
    assert names == {*PARAMETERS, *(f'{name}-plain-head' for name in PARAMETERS)}


@pytest.mark.parametrize(
    ('stages', 'error', 'message'),
    [
        (1, ValueError, 'stages must be 2 or 3, got 1'),
        (4, ValueError, 'stages must be 2 or 3, got 4'),
        (2.5, TypeError, 'stages must be an integer, got 2.5'),
    ],
)
def test_stages_are_two_or_three(stages, error, message):
    with pytest.raises(error, match=message):
        ReportCNN(stages=stages)


@DATASETS.register_module()
class Numbers(BaseDataset):
    def load_data_list(self):
        return [dict(number=i) for i in range(10)]


def split(part, lengths=(7, 3), **options):
    dataset = dict(type='Numbers')
    cfg = dict(type='mmattn.RandomSplit', dataset=dataset, lengths=lengths, part=part, **options)
    return DATASETS.build(cfg)


@pytest.mark.parametrize('seed', [42, 7])
def test_the_split_is_that_of_torch(seed):
    generator = torch.Generator().manual_seed(seed)
    for part, expected in enumerate(torch.utils.data.random_split(range(10), (7, 3), generator)):
        found = split(part, seed=seed)
        assert [found[i]['number'] for i in range(len(found))] == list(expected)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (
            dict(lengths=(7, 2)),
            'lengths must sum to the 10 images .*, got \\(7, 2\\)',
        ),
        (dict(part=2), 'part must be from 0 to 1, got 2'),
    ],
)
def test_a_wrong_split_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        split(**{'part': 0, **options})
