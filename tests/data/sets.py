"""Small data sets of every layout, written on the fly; a change may spoil each."""

import json

import numpy as np
from mmengine.config import Config
from PIL import Image

CLASSES = ('cat', 'dog')
SIZE = (40, 30)  # width, height


def image(path, size=SIZE, orientation=None, suffix='JPEG'):
    """Write a noisy image; ``orientation`` goes into its EXIF data."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    options = {}
    if orientation is not None:
        options['exif'] = Image.Exif()
        options['exif'][0x0112] = orientation
    Image.fromarray(noise).save(path, suffix, **options)
    return path


def coco_content():
    """Two images, a cat and a dog."""
    return dict(
        images=[dict(id=i, file_name=f'{i}.jpg', width=40, height=30) for i in (1, 2)],
        annotations=[
            dict(id=1, image_id=1, category_id=7, bbox=[2, 3, 10, 8], area=80, iscrowd=0),
            dict(id=2, image_id=2, category_id=9, bbox=[5, 5, 20, 20], area=400, iscrowd=0),
        ],
        categories=[dict(id=7, name='cat'), dict(id=9, name='dog')],
    )


def write_coco(root, change=lambda content: None):
    """Write :func:`coco_content` with its images."""
    content = coco_content()
    change(content)
    for i in (1, 2):
        image(root / 'images' / f'{i}.jpg')
    (root / 'boxes.json').write_text(json.dumps(content))
    return root


def voc_object(name='cat', corners=(3, 4, 12, 11), more=''):
    box = ''.join(f'<{k}>{v}</{k}>' for k, v in zip(('xmin', 'ymin', 'xmax', 'ymax'), corners))
    return f'<object><name>{name}</name>{more}<bndbox>{box}</bndbox></object>'


def voc_text(objects, size=SIZE):
    size = '<size><width>{}</width><height>{}</height></size>'.format(*size)
    return f'<annotation>{size}{objects}</annotation>'


def write_voc(root, objects=None, names=('a', 'b'), suffix='.jpg', size=SIZE):
    """Two images, a cat and a dog; ``objects`` replaces the content of the first."""
    contents = [objects or voc_object(), voc_object('dog')]
    for name, content in zip(('a', 'b'), contents):
        image(root / 'JPEGImages' / f'{name}{suffix}')
        xml = root / 'Annotations' / f'{name}.xml'
        xml.parent.mkdir(parents=True, exist_ok=True)
        xml.write_text(voc_text(content, size))
    (root / 'list.txt').write_text(''.join(f'{name}\n' for name in names))
    return root


def coco_cfg(root, split='train', **changes):
    """Return a config with a COCO data set in one split."""
    dataset = dict(
        type='CocoDataset',
        data_root=str(root),
        ann_file='boxes.json',
        data_prefix=dict(img='images/'),
        metainfo=dict(classes=CLASSES),
        **(dict(test_mode=True) if split != 'train' else {}),
    )
    dataset.update(changes)
    loader = {f'{split}_dataloader': dict(dataset=dataset)}
    return Config(dict(default_scope='mmdet', **loader))


def voc_cfg(root, split='train', **changes):
    """Return a config with a VOC data set in one split."""
    options = dict(type='XMLDataset', ann_file='list.txt', data_prefix=dict(sub_data_root=''))
    return coco_cfg(root, split, **{**options, **changes})


def evaluated(cfg, ann_file, metric='bbox', split='val'):
    """Add a COCO metric that reads a file."""
    cfg[f'{split}_evaluator'] = dict(type='CocoMetric', ann_file=str(ann_file), metric=metric)
    return cfg
