"""The classifiers that the papers compare with: parameters as printed, recipes, axes."""

import pytest
import torch
from mmengine.registry import MODELS

pytest.importorskip('mmpretrain', reason='classifiers')

from tests.narrow_classifiers import CONFIGS, read

OURS = CONFIGS / 'attention_classification'
# COSTS.md: TDAM paper, table 1, in millions
TDAM = {
    'resnet50': 25.5570,
    'se-resnet50': 28.0720,
    'cbam-resnet50': 28.0736,
    'eca-resnet50': 25.5571,
    'fca-resnet50': 28.0720,
    'resnet101': 44.5492,
    'se-resnet101': 49.2923,
    'cbam-resnet101': 49.2956,
    'eca-resnet101': 44.5493,  # not printed; 171 values by hand
    'fca-resnet101': 49.2923,
}
# COSTS.md: SSIA paper, table 3, what a method adds to ResNet-50, in millions
SSIA = {'se': '2.5149', 'cbam': '2.5326', 'bam': '0.3581', 'eca': '0.000086', 'simam': '0'}
PLAIN = 23508032
RECIPES = ('1xb32-100e_cifar10-224', '1xb32-100e_cifar100-224', '1xb64-100e_in1k')
ABLATIONS = sorted((CONFIGS / 'tdam').glob('*_in200.py'))
MULTI_LABEL = sorted(CONFIGS.glob('*/*_coco-multilabel.py'))


def on_meta(path):
    cfg = read(path)
    with torch.device('meta'):  # shapes alone
        return MODELS.build(cfg.model)


def count(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize('name', TDAM)
def test_the_rows_of_tdams_table_1(name):
    model = on_meta(OURS / f'{name}_4xb128-150e_in1k.py')
    assert f'{count(model) / 1e6:.4f}' == f'{TDAM[name]:.4f}'
    assert not model.backbone.norm_eval


def test_baselines_have_the_recipe_of_the_rows_they_stand_beside():
    ours = read(OURS / 'se-resnet101_4xb128-150e_in1k.py')
    theirs = read(CONFIGS / 'tdam/td-resnet101-joint-t2m1_4xb128-150e_in1k.py')
    assert {**ours, 'model': None} == {**theirs, 'model': None}
    assert ours.model.head == theirs.model.head
    ours = read(OURS / 'eca-resnet50_1xb32-100e_cifar100-224.py')
    theirs = read(CONFIGS / 'ssia/resnet50_1xb32-100e_cifar100-224.py')
    keys = {*theirs} - {'model', 'custom_imports'}
    assert {key: ours[key] for key in keys} == {key: theirs[key] for key in keys}


@pytest.mark.parametrize('recipe', RECIPES)
def test_the_rows_of_ssias_table_3(recipe):
    for name, added in SSIA.items():
        model = on_meta(OURS / f'{name}-resnet50_{recipe}.py')
        digits = len(added.partition('.')[2])
        assert f'{(count(model.backbone) - PLAIN) / 1e6:.{digits}f}' == added


def test_the_plain_row_of_ssias_table_3():
    plain = MODELS.build(read(CONFIGS / f'ssia/resnet50_{RECIPES[0]}.py').model)  # not on meta
    assert count(plain.backbone) == PLAIN


@pytest.mark.parametrize(
    'name, parameters',
    [
        ('vgg16-learn-to-pay', 19993764),
        ('vgg16-learn-to-pay-dot', 19992228),
        ('vgg16-learn-to-pay-early-pool', 15009444),
        ('vgg16', 19758756),
    ],
)
def test_the_parameters_of_learn_to_pay(name, parameters):
    folder = CONFIGS / 'learn_to_pay'
    assert count(on_meta(folder / f'{name}_1xb128-300e_cifar100.py')) == parameters
    assert f'{parameters:,}' in (folder / 'README.md').read_text()


def test_the_cifar_rows_of_ssia_see_images_of_224():
    for classes in (10, 100):
        cfg = read(CONFIGS / f'ssia/resnet50-ssia_1xb32-100e_cifar{classes}-224.py')
        for split in ('train', 'val', 'test'):
            dataset = cfg[f'{split}_dataloader'].dataset
            assert (dataset.type, dataset.data_root) == (f'CIFAR{classes}', f'data/cifar{classes}')
            assert 'ann_file' not in dataset
        assert cfg.model.head.num_classes == cfg.data_preprocessor.num_classes == classes
        assert cfg.optim_wrapper.optimizer.weight_decay == 4e-5
        assert cfg.test_dataloader.dataset.split == 'test'


def test_the_ablation_has_each_axis():
    found = {}
    for path in ABLATIONS:
        blocks = [b for b in on_meta(path).backbone.layer4 if hasattr(b, 'searchlight')]
        if blocks:
            light = blocks[0].searchlight
            found[path.stem] = (
                blocks[0].steps,
                blocks[0].distance,
                light.attention,
                light.operation,
            )
    assert len(ABLATIONS) == len(found) + 1  # one step is the plain network
    steps, distances, attentions, operations = map(set, zip(*found.values()))
    assert (steps, distances, attentions) == ({2, 3}, {0, 1, 2, 3}, {'joint', 'top'})
    assert len(operations) == 6
    assert len(set(found.values())) == len(found)


def test_multi_label_rows_differ_in_the_backbone_alone():
    cfgs = [read(path) for path in MULTI_LABEL]
    assert len(cfgs) == 6
    for cfg in cfgs:
        assert cfg.model.head == cfgs[0].model.head
        assert cfg.model.head.loss.type == 'AsymmetricLoss'
        assert cfg.train_dataloader == cfgs[0].train_dataloader
