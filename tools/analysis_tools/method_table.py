"""Print the README's table: every method with its config and what it costs on ResNet-50.

    python tools/analysis_tools/method_table.py

The costs are those of the config's backbone and neck (or head) for one 224 x 224 image, less
those of the plain network.
"""

import copy
from pathlib import Path
from typing import NamedTuple

import torch
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from mmattn.analysis.complexity import Complexity, measure_complexity

ROOT = Path(__file__).absolute().parents[2]


class Method(NamedTuple):
    """A row: the registered name, what it does, source, slot, where it sits here, config.

    ``reported`` is what a paper prints with the method and, in brackets, without it; ``measured``
    is what a page of this project holds.
    """

    name: str
    sentence: str
    paper: str
    slot: str
    place: str
    config: str
    reported: str = '-'
    measured: str = 'no'


PLAIN = {
    'mmdet': 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
    'mmpretrain': 'mmpretrain::resnet/resnet50_8xb32_in1k.py',
}
RESNET = 'attention_resnet/faster-rcnn_r50-{}_fpn_1x_coco'
METHODS = (
    Method(
        'AWConv2d',
        "scales a convolution's weights, image by image",
        '[2108.08205](https://arxiv.org/abs/2108.08205)',
        'conv',
        'every 3x3',
        RESNET.format('aw'),
    ),
    Method(
        'AWFPN',
        'feature pyramid of such convolutions, with gates if you like',
        '[2108.08205](https://arxiv.org/abs/2108.08205)',
        'neck',
        'neck',
        'aw_fpn/faster-rcnn_r50_aw-fpn_1x_coco',
        'COCO AP 37.76 (37.13), R101',
        '[BCCD](docs/bccd.md) AP 0.520 (0.517): no difference',
    ),
    Method(
        'AAConv2d',
        'takes some channels from self-attention (and the AW-AA combinations)',
        '[1904.09925](https://arxiv.org/abs/1904.09925)',
        'conv',
        '3x3 of C4, C5',
        RESNET.format('aa-c4-c5'),
        'CIFAR-100 error 1.87 points lower with AW (AW-AA-0)',
    ),
    Method(
        'TDResNet',
        'feeds the top of a block back to its bottom (also `TDConvNeXt`, `TDMobileNetV3`)',
        '[2111.13470](https://arxiv.org/abs/2111.13470)',
        'backbone',
        'C4, C5',
        'tdam/faster-rcnn_r50-td-joint-t2m1_fpn_1x_coco',
        'localization 61.55 (57.04) %',
    ),
    Method(
        'SSIA',
        'adds losses while a model trains, low maps predicting high ones; the deployed model is '
        'the plain one',
        '[2206.07434](https://arxiv.org/abs/2206.07434)',
        'model',
        'C3 to C5',
        'ssia/faster-rcnn_r50-ssia_fpn_1x_coco',
        'mini-ImageNet top-1 82.31 (79.59) %',
        '[a sixteenth of CIFAR-10](docs/ssia.md) top-1 39.083 (47.680), at twice '
        "the paper's weights",
    ),
    Method(
        'SE',
        'gates channels by their global averages',
        '[1709.01507](https://arxiv.org/abs/1709.01507)',
        'gate',
        'every block',
        RESNET.format('se'),
        'COCO AP 38.11 (37.13), R101, in the neck; localization 56.62 (57.04) %',
    ),
    Method(
        'CBAM',
        'gates channels, then positions (the AW paper\'s "MaxPool" and "Spatial" too)',
        '[1807.06521](https://arxiv.org/abs/1807.06521)',
        'gate',
        'every block',
        RESNET.format('cbam'),
        'COCO AP 37.74 (37.13), R101, in the neck; localization 58.91 (57.04) %',
    ),
    Method(
        'BAM',
        'gates by channel and dilated spatial logits together',
        '[1807.06514](https://arxiv.org/abs/1807.06514)',
        'gate',
        'after C2, C3, C4',
        RESNET.format('bam'),
    ),
    Method(
        'ECA',
        'gates channels by a 1-D convolution across them',
        '[1910.03151](https://arxiv.org/abs/1910.03151)',
        'gate',
        'every block',
        RESNET.format('eca'),
        'localization 56.94 (57.04) %',
    ),
    Method(
        'SimAM',
        "gates every value by how far it is from its channel's mean; no parameters",
        'ICML 2021',
        'gate',
        'every block',
        RESNET.format('simam'),
    ),
    Method(
        'FcaNet',
        'SE that pools 16 frequencies instead of the average',
        '[2012.11879](https://arxiv.org/abs/2012.11879)',
        'gate',
        'every block',
        RESNET.format('fca'),
        'localization 56.88 (57.04) %',
    ),
    Method(
        'GlobalContext',
        'adds one attended summary of the map everywhere',
        '[1904.11492](https://arxiv.org/abs/1904.11492)',
        'gate',
        'C3 to C5',
        RESNET.format('gc-c3-c5'),
    ),
    Method(
        'NonLocal',
        'adds to each position a weighted mean of all',
        '[1711.07971](https://arxiv.org/abs/1711.07971)',
        'gate',
        'last block of C4',
        RESNET.format('non-local-c4'),
    ),
    Method(
        'DualAttention',
        'position and channel attention side by side (DANet; also alone)',
        '[1809.02983](https://arxiv.org/abs/1809.02983)',
        'gate',
        'after C5',
        RESNET.format('danet-c5'),
    ),
    Method(
        'SpatialWeights',
        'one unbounded weight for each position (full-face)',
        '[1611.08860](https://arxiv.org/abs/1611.08860)',
        'gate',
        'after C5',
        RESNET.format('spatial-weights-c5'),
    ),
    Method(
        'ConvAutoencoderAttention',
        'gates every value by a convolutional autoencoder of the map',
        'course report, 2023',
        'gate',
        'after every 3x3',
        RESNET.format('conv-autoencoder'),
    ),
    Method(
        'LinearAutoencoderAttention',
        'gates every value by an autoencoder of its row; made for one width',
        'course report, 2023',
        'gate',
        'after every 3x3',
        RESNET.format('linear-autoencoder'),
    ),
    Method(
        'Sequence',
        "gates one after the other: ECA + CBAM's spatial half",
        'course report, 2023',
        'gate',
        'every block',
        RESNET.format('eca-spatial'),
    ),
    Method(
        'Sequence',
        'gates one after the other: ECA + autoencoder',
        'course report, 2023',
        'gate',
        'after every 3x3',
        RESNET.format('eca-autoencoder'),
    ),
    Method(
        'PyramidAttention',
        'queries of one map, keys of a pyramid of maps; our reading',
        'ECCV 2018',
        'gate, neck',
        'after C5',
        RESNET.format('pyramid-c5'),
    ),
    Method(
        'LearnToPayGate',
        'weighs positions by a softmax over their scores (learn to pay attention); our reading',
        '[1804.02391](https://arxiv.org/abs/1804.02391)',
        'gate',
        'after C3 to C5',
        RESNET.format('learn-to-pay-c3-c5'),
    ),
    Method(
        'LearnToPayHead',
        'classifies from sums of several maps so weighed, as in the paper',
        '[1804.02391](https://arxiv.org/abs/1804.02391)',
        'head',
        'classifier',
        'learn_to_pay/resnet50-learn-to-pay_8xb32_in1k',
    ),
)


def costs(config: str) -> tuple[int, int]:
    """Parameters and multiply-accumulates that a config adds to plain ResNet-50."""
    cfg = Config.fromfile(ROOT / 'configs' / f'{config}.py')
    ours, plain = count(cfg), count(get_config(PLAIN[cfg.default_scope]))
    return ours.params - plain.params, ours.macs - plain.macs


def count(cfg: Config) -> Complexity:
    """Backbone and neck or head of a config's model, one image of 224 x 224."""
    init_default_scope(cfg.default_scope)
    model = copy.deepcopy(cfg.model.get('model', cfg.model))  # SSIA is around another model
    model.backbone.init_cfg = None
    parts = [model.backbone, *(model[key] for key in ('neck', 'head') if model.get(key))]
    net = nn.Sequential(*(MODELS.build(part) for part in parts)).to('meta')
    return measure_complexity(net, torch.zeros(1, 3, 224, 224, device='meta'))


def table() -> str:
    """Return the Markdown table."""
    lines = [
        '| method | what it does | paper | slot | here | parameters | GMACs '
        '| papers report | measured |',
        '|---|---|---|---|---|---:|---:|---|---|',
    ]
    for method in METHODS:
        params, macs = costs(method.config)
        config = f'[{method.place}](configs/{method.config}.py)'
        lines.append(
            f'| `{method.name}` | {method.sentence} | {method.paper} | {method.slot} | {config} '
            f'| +{params:,} | +{macs / 1e9:.3f} | {method.reported} | {method.measured} |'
        )
    return '\n'.join(lines)


if __name__ == '__main__':
    print(table())
