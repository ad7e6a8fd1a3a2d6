"""Every classification config with a narrow network: a training step of each is cheap."""

import json

from mmengine.config import Config
from mmengine.registry import init_default_scope

from tests.commands import ROOT
from tests.data.sets import image

CONFIGS = ROOT / 'configs'
DETECTORS = ('faster-rcnn', 'retinanet', 'ssd300')
PATHS = [
    path
    for path in sorted(CONFIGS.glob('*/*.py'))
    if not path.stem.startswith(DETECTORS) and 'runtime' not in path.name
]
CHEAP = ('VGG', 'Report', 'MobileNetV2', 'ShuffleNetV2', 'MobileNetV3')  # as wide as they are


def read(path):
    """The config without pretrained weights."""
    cfg = Config.fromfile(path)
    init_default_scope('mmpretrain')
    backbone = cfg.model.backbone
    if 'checkpoint' in (backbone.get('init_cfg') or {}):
        backbone.init_cfg = None
    return cfg


def read_narrow(path):
    """The same, its network an eighth as wide, and its head with it."""
    cfg = read(path)
    backbone = cfg.model.backbone
    kind = backbone.get('wrapped', backbone.type)
    if any(word in kind for word in CHEAP):
        return cfg
    share = 8
    if 'WideResNet' in kind:
        share = 5
        backbone.widen_factor = 10 // share
    elif 'MobileNet' in kind:
        backbone.widen_factor = 1 / share
    elif 'ConvNeXt' in kind:
        backbone.arch = dict(depths=[1, 1, 2, 1], channels=[96 // share * 2**i for i in range(4)])
        backbone.update(preset=None, attention='joint', distance=1)
    else:
        backbone.base_channels = backbone.get('base_channels', 64) // share
        if not kind.startswith('mmattn'):
            backbone.stem_channels = backbone.get('stem_channels', 64) // share
    if 'r_c1' in backbone.get('conv2', {}):
        backbone.conv2.r_c1 //= share
    parts = cfg.model.get('neck') or []
    for part in [cfg.model.head, *(parts if isinstance(parts, list) else [parts])]:
        width = part.get('in_channels')
        if isinstance(width, int):
            part.in_channels = width // share
        elif width is not None:
            part.in_channels = [w // share for w in width]
    return cfg


def input_size(cfg):
    """Side of the images that the network trains on."""
    dataset = cfg.train_dataloader.dataset
    steps = dataset.get('dataset', dataset).pipeline
    sizes = [s.get('scale', s.get('crop_size')) for s in steps if 'Crop' in s['type']]
    return sizes[-1] if sizes else 32


def samples(cfg):
    """Labels of two images."""
    from mmpretrain.structures import DataSample

    labels = ([0, 3], [1]) if 'MultiLabel' in cfg.model.head.type else (0, 3)
    classes = cfg.data_preprocessor.num_classes
    return [DataSample(num_classes=classes).set_gt_label(label) for label in labels]


def use_tiny_data(root, cfg):
    """Put four images of two classes in the place of a config's data."""
    for i in range(4):
        image(root / f'class_{i % 2}' / f'{i}.jpg', (32, 32))
    labels = [dict(img_path=f'class_{i % 2}/{i}.jpg', gt_label=[i % 2]) for i in range(4)]
    (root / 'labels.json').write_text(json.dumps(dict(metainfo={}, data_list=labels)))
    for split in ('train', 'val', 'test'):
        loader = cfg.get(f'{split}_dataloader')
        if loader is None:
            continue
        dataset = loader.dataset.get('dataset', loader.dataset)
        steps = [s for s in dataset.pipeline if s['type'] != 'LoadImageFromFile']
        new = dict(
            type='CustomDataset',
            data_root=str(root),
            pipeline=[dict(type='LoadImageFromFile'), *steps],
        )
        if dataset.type == 'MultiLabelDataset':
            new.update(type=dataset.type, ann_file='labels.json', data_prefix='')
        loader.update(batch_size=2, num_workers=0, persistent_workers=False)
        loader.dataset = new  # update would mix it with the old one
