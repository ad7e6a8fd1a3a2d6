"""The AW paper's classifiers: parameters as counted, the CIFAR stem, the axes."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

pytest.importorskip('mmpretrain', reason='classifiers')

FOLDER = Path(__file__).parent.parent / 'configs' / 'aw_classification'
PARAMETERS = {  # millions; independent counts
    'resnet50_8xb32_in1k': 25.5570,
    'aw-resnet50_8xb32_in1k': 25.7222,
    'se-resnet50_8xb32_in1k': 28.0880,
    'aw-se-resnet50_8xb32_in1k': 28.2532,
    'aw-cbam-max-pool-resnet50_8xb32_in1k': 28.2532,
    'aw-cbam-spatial-resnet50_8xb32_in1k': 28.2548,
    'resnet101_8xb32_in1k': 44.5492,
    'aw-resnet101_8xb32_in1k': 44.8629,
    'se-resnet101_8xb32_in1k': 49.3269,
    'aw-se-resnet101_8xb32_in1k': 49.6406,
    'aw-cbam-max-pool-resnet101_8xb32_in1k': 49.6406,
    'aw-cbam-spatial-resnet101_8xb32_in1k': 49.6439,
    'mobilenet_8xb32_in1k': 4.2320,
    'se-mobilenet_8xb32_in1k': 5.0721,
    'aw-se-mobilenet_8xb32_in1k': 5.5209,
    'cbam-mobilenet_8xb32_in1k': 5.0747,
    'aw-cbam-spatial-mobilenet_8xb32_in1k': 5.5235,
    'resnet50_1xb128_cifar100': 23.7053,
    'aw-resnet50_1xb128_cifar100': 23.8705,
    'se-resnet50_1xb128_cifar100': 26.2362,
    'aw-se-resnet50_1xb128_cifar100': 26.4015,
    'cbam-resnet50_1xb128_cifar100': 26.2378,
    'aw-cbam-resnet50_1xb128_cifar100': 26.4031,
    'aa-wide-resnet28-10_1xb128_cifar100': 36.3127,
    'aw-aa-0-wide-resnet28-10_1xb128_cifar100': 36.5910,
    'aw-aa-1-wide-resnet28-10_1xb128_cifar100': 36.5354,
    'aw-aa-2-wide-resnet28-10_1xb128_cifar100': 36.5067,
    'aw-aa-3-wide-resnet28-10_1xb128_cifar100': 36.3163,
}
ABLATIONS = sorted({path.stem for path in FOLDER.glob('*.py')} - set(PARAMETERS))


def build(name):
    cfg = Config.fromfile(FOLDER / f'{name}.py')
    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    return MODELS.build(cfg.model), cfg


@pytest.mark.parametrize('name', PARAMETERS)
def test_a_row_has_its_parameters(name):
    with torch.device('meta'):  # shapes alone
        model, cfg = build(name)
    count = sum(p.numel() for p in model.parameters())
    assert f'{count / 1e6:.4f}' == f'{PARAMETERS[name]:.4f}'
    assert cfg.val_evaluator.topk == (1, 5)
    assert not getattr(model.backbone, 'norm_eval', False)
    if name.endswith('resnet50_1xb128_cifar100'):
        assert model.backbone.conv1.kernel_size == (3, 3)


def test_every_row_is_counted_and_the_axes_of_the_ablation_are_there():
    assert len(PARAMETERS) == 28
    axes = {name.split('-resnet50')[0] for name in ABLATIONS}
    assert axes == {
        *('aw-r8', 'aw-r32', 'aw-rc1-32', 'aw-rc2-4', 'aw-rhw-3'),
        *('aw-no-residual', 'aw-stages-34', 'aw-stage-4'),
    }
