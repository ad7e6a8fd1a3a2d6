"""The classifiers that the papers compare with: parameters as printed, a step, a run."""

import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

pytest.importorskip('mmpretrain', reason='classifiers')

from tests.commands import ROOT, run_command
from tests.data.sets import image

CONFIGS = ROOT / 'configs'
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
LEARN_TO_PAY = sorted((CONFIGS / 'learn_to_pay').glob('vgg16*.py'))
NEW_SSIA = [
    *(CONFIGS / 'ssia').glob('*-224.py'),
    *(path for b in (128, 256) for path in (CONFIGS / 'ssia').glob(f'*xb{b}-*')),
]
MULTI_LABEL = sorted(CONFIGS.glob('*/*_coco-multilabel.py'))
STEPS = sorted({*OURS.glob('*.py'), *ABLATIONS, *LEARN_TO_PAY, *NEW_SSIA, *MULTI_LABEL})
QUICK = {  # one of each family; the others are slow
    'fca-resnet50_4xb128-150e_in1k',
    'bam-resnet50_1xb32-100e_cifar10-224',
    'resnet50-pyramid-c3-c5_8xb32_in1k',
    'cbam-resnet50_8xb16_coco-multilabel',
    'td-resnet50-joint-t2m1-recurrent_4xb128-150e_in200',
    'resnet50-ssia_1xb32-100e_cifar100-224',
    'vgg16-learn-to-pay_1xb128-300e_cifar10',
}


def each(paths):
    """Parameters of a test: the quick configs at once, the others as slow ones."""
    return [
        pytest.param(path, id=path.stem, marks=[] if path.stem in QUICK else pytest.mark.slow)
        for path in paths
    ]


def read(path, narrow=False):
    cfg = Config.fromfile(path)
    init_default_scope('mmpretrain')
    backbone = cfg.model.backbone
    if 'checkpoint' in (backbone.get('init_cfg') or {}):
        backbone.init_cfg = None
    if narrow and 'VGG' not in backbone.type:
        backbone.base_channels = 16
        if backbone.type == 'ResNet':
            backbone.stem_channels = 16
        cfg.model.head.in_channels = 512
        for part in cfg.model.neck if isinstance(cfg.model.neck, list) else []:
            if 'in_channels' in part:
                part.in_channels = [width // 4 for width in part.in_channels]
    return cfg


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


def samples(cfg):
    from mmpretrain.structures import DataSample

    labels = ([0, 3], [1]) if 'MultiLabel' in cfg.model.head.type else (0, 3)
    return [
        DataSample(num_classes=cfg.model.head.num_classes).set_gt_label(label) for label in labels
    ]


@pytest.mark.parametrize('path', each(STEPS))
def test_trains_a_step(path):
    cfg = read(path, narrow=True)
    model = MODELS.build(cfg.model)
    model.init_weights()
    model.train()
    size = 32 if 'vgg16' in path.stem else 224
    losses = model(torch.randn(2, 3, size, size), samples(cfg), mode='loss')
    total = sum(loss for name, loss in losses.items() if 'loss' in name)
    total.backward()
    assert total.isfinite()
    assert not [name for name, p in model.named_parameters() if p.grad is None]


def tiny(root, cfg):
    """Put four images of two classes in the place of a config's data."""
    for i in range(4):
        image(root / f'class_{i % 2}' / f'{i}.jpg', (40, 40))
    labels = [dict(img_path=f'class_{i % 2}/{i}.jpg', gt_label=[i % 2]) for i in range(4)]
    (root / 'labels.json').write_text(json.dumps(dict(metainfo={}, data_list=labels)))
    for split in ('train', 'val', 'test'):
        loader = cfg[f'{split}_dataloader']
        dataset = loader.dataset.get('dataset', loader.dataset)
        steps = [s for s in dataset.pipeline if s['type'] != 'LoadImageFromFile']
        steps.insert(0, dict(type='LoadImageFromFile'))
        if 'vgg16' in cfg.filename:
            steps.insert(1, dict(type='Resize', scale=32))
        new = dict(type='CustomDataset', data_root=str(root), pipeline=steps)
        if dataset.type == 'MultiLabelDataset':
            new.update(type=dataset.type, ann_file='labels.json', data_prefix='')
        loader.update(batch_size=2, num_workers=0, persistent_workers=False)
        loader.dataset = new  # update would mix it with the old one


@pytest.mark.slow
@pytest.mark.parametrize('path', [pytest.param(path, id=path.stem) for path in STEPS])
def test_two_steps_of_a_run(path, tmp_path, monkeypatch):
    cfg = read(path, narrow=True)
    tiny(tmp_path / 'data', cfg)
    cfg.train_cfg.max_epochs = 1
    cfg.optim_wrapper.pop('loss_scale', None)
    cfg.optim_wrapper.type = 'OptimWrapper'
    cfg.work_dir = str(tmp_path / 'run')
    cfg.dump(tmp_path / 'config.py')
    monkeypatch.chdir(tmp_path)
    assert run_command('train.py', tmp_path / 'config.py') == 0
    assert Path(tmp_path, 'run', 'epoch_1.pth').is_file()
