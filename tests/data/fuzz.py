"""Every field of every layout, mutated; what must come of it.

A case is ``(layout, context, place, name of the mutation)``. :func:`play` writes a small data set
with that one value spoiled and returns the sentence that refuses it, or '' after everything that
reads the file in that context has taken it: mmdet's data set and its pipeline, pycocotools, or
the matching of localization.
"""

import copy
import json
import math
import os
import re
from contextlib import redirect_stdout

import numpy as np

from mmattn.data.checks import check_data
from mmattn.data.fields import LAYOUTS
from mmattn.localization.annotations import load_annotations
from mmattn.localization.api import check_labels
from tests.data.sets import (
    CLASSES,
    coco_cfg,
    coco_content,
    evaluated,
    image,
    voc_cfg,
    write_coco,
    write_voc,
)

ABSENT = object()
VALUES = {
    'absent': ABSENT,
    'null': None,
    'empty text': '',
    'blank': ' ',
    'empty list': [],
    'empty object': {},
    'text': 'walrus',
    'number as text': '1',
    'NaN': math.nan,
    'infinity': math.inf,
    'minus infinity': -math.inf,
    'negative': -5,
    'zero': 0,
    'fraction': 0.5,
    'huge': 1e300,
    'huge whole': 10**30,
    'true': True,
    'list in list': [[1, 2], 'x'],
}
WORDS = {
    'absent': ABSENT,
    'empty text': '',
    'text': 'walrus',
    'NaN': 'nan',
    'infinity': 'inf',
    'negative': '-5',
    'zero': '0',
    'fraction': '0.5',
    'huge': '1e300',
    'huge whole': '1' + '0' * 30,
    'blank inside': '1 2',
    'null byte': 'a\0b',
}
JSON_CONTEXTS = dict(coco=('train', 'val', 'mask', 'localization'), boxes=('localization',))


# --------------------------------------------------------------------------------- JSON layouts


def boxes_content():
    boxes = [[1, 2, 10, 12], [5, 5, 20, 20]]
    return [
        dict(file=f'{i}.jpg', label=i - 1, width=40, height=30, boxes=copy.deepcopy(boxes))
        for i in (1, 2)
    ]


def masked_content():
    content = coco_content()
    for annotation in content['annotations']:
        annotation['segmentation'] = [[2, 3, 12, 3, 12, 11]]
    return content


def paths_in(content, path=()):
    """Every place in nested JSON, groups and entries too."""
    if path:
        yield path
    if isinstance(content, dict | list):
        keys = content if isinstance(content, dict) else range(len(content))
        for key in keys:
            yield from paths_in(content[key], (*path, key))


def spoil(content, path, value):
    content = copy.deepcopy(content)
    inner = content
    for key in path[:-1]:
        inner = inner[key]
    if value is ABSENT:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return content


# --------------------------------------------------------------------------------- text layouts

KAGGLE = [
    ['ImageId', 'PredictionString'],
    ['1', 'cat 1 2 10 12 cat 5 5 20 20'],
    ['2', 'dog 5 5 20 20'],
]
WSOL = {
    'image_ids.txt': [['1.jpg'], ['2.jpg']],
    'class_labels.txt': [['1.jpg', '0'], ['2.jpg', '1']],
    'image_sizes.txt': [['1.jpg', '40', '30'], ['2.jpg', '40', '30']],
    'localization.txt': [['1.jpg', '1', '2', '10', '12'], ['2.jpg', '5', '5', '20', '20']],
}
CUB = {
    'images.txt': [['1', '1.jpg'], ['2', '2.jpg']],
    'classes.txt': [['1', '001.cat'], ['2', '002.dog']],
    'train_test_split.txt': [['1', '0'], ['2', '0']],
    'image_class_labels.txt': [['1', '1'], ['2', '2']],
    'bounding_boxes.txt': [['1', '1.0', '2.0', '10.0', '5.0'], ['2', '5', '5', '20', '20']],
}
VOC = {  # parts of the XML of the first image
    **{f'size/{side}': value for side, value in (('width', '40'), ('height', '30'))},
    'object/name': 'cat',
    'object/difficult': '0',
    **{f'bndbox/{k}': v for k, v in zip(('xmin', 'ymin', 'xmax', 'ymax'), ['3', '4', '12', '11'])},
}


def words_of(row):
    """A CSV row as a flat list of what can be spoiled."""
    return [row[0], *row[1].split()]


def write_xml(path, values):
    def part(group):
        inside = [(k.split('/')[1], v) for k, v in values.items() if k.startswith(f'{group}/')]
        return ''.join(f'<{k}>{v}</{k}>' for k, v in inside if v is not ABSENT)

    text = (
        f'<annotation><size>{part("size")}</size><object>{part("object")}'
        f'<bndbox>{part("bndbox")}</bndbox></object></annotation>'
    )
    path.write_text(text)


# ---------------------------------------------------------------------------------------- cases


def all_cases():
    """Every case, in a fixed order."""
    cases = []
    for layout, content in (('coco', masked_content()), ('boxes', boxes_content())):
        for context in JSON_CONTEXTS[layout]:
            for path in paths_in(content):
                cases += [(layout, context, path, name) for name in VALUES]
    for context in ('train', 'val', 'localization'):
        cases += [('voc', context, part, name) for part in VOC for name in WORDS]
    for row in range(3):
        count = len(words_of(KAGGLE[row]))
        cases += [
            ('kaggle', 'localization', (row, i), name) for i in range(count) for name in WORDS
        ]
    for layout, files in (('wsol', WSOL), ('cub', CUB)):
        for file, rows in files.items():
            for row, fields in enumerate(rows):
                cases += [
                    (layout, 'localization', (file, row, i), name)
                    for i in range(len(fields))
                    for name in WORDS
                ]
    return cases


def prepare(root):
    """Write the images and files that the cases share."""
    write_coco(root / 'coco')
    write_voc(root / 'voc')
    for i in (1, 2):
        image(root / 'flat' / f'{i}.jpg')
    image(root / 'named' / 'a.jpg')
    for folder in ('wsol', 'cub', 'xml'):
        (root / folder).mkdir()
    (root / 'synsets.list').write_text('cat\ndog\n')


def play(root, case):
    """Play one case; ``(sentence or '', words of which the sentence must hold one each)``."""
    layout, context, place, name = case
    if layout in JSON_CONTEXTS:
        content = masked_content() if layout == 'coco' else boxes_content()
        content = spoil(content, place, VALUES[name])
        return _play_json(root, layout, context, place, content), _json_words(place, name)
    if layout == 'voc':
        values = dict(VOC, **{place: WORDS[name]})
        group, field = place.split('/')
        entry = 'size' if group == 'size' else f'object 1|{WORDS[name]}|: a:'
        file = 'xml' if context == 'localization' else 'a.xml'
        return _play_voc(root, context, values), [
            file,
            entry,
            f'{field}|{WORDS[name]}|class|box|label',
        ]
    if layout == 'kaggle':
        return _play_kaggle(root, place, WORDS[name])
    return _play_lines(root, layout, place, WORDS[name])


def _json_words(place, name):
    """File, entry and field as a sentence must name them."""
    value = VALUES[name]
    keys = [str(key) for key in place if isinstance(key, str)]
    entry = [f'{place[0]}[{place[1]}]'] if isinstance(place[0], str) and len(place) > 1 else []
    entry = entry or ([f'entry {place[0]}'] if not isinstance(place[0], str) else [place[0]])
    field = keys[-1] if keys else 'object'
    also = repr(value) if not isinstance(value, str) else (value.strip() or 'empty')
    return [
        'boxes.json',
        '|'.join([*entry, 'image', 'categor', 'box ', 'label']),
        f'{field}|{also}|image|object|box',
    ]


def _one_line(error):
    assert isinstance(error, ValueError | FileNotFoundError), repr(error)
    return str(error)


def _play_json(root, layout, context, place, content):
    folder = root / ('coco' if layout == 'coco' else 'flat')
    file = folder / 'boxes.json'
    file.write_text(json.dumps(content))
    if context == 'localization':
        images = folder / 'images' if layout == 'coco' else folder
        return _play_localization(file, images, layout)
    split = 'val' if context == 'val' else 'train'
    masks = context == 'mask'
    loading = dict(type='LoadAnnotations', with_bbox=True, with_mask=masks)
    steps = [dict(type='LoadImageFromFile'), loading, dict(type='mmdet.PackDetInputs')]
    cfg = coco_cfg(folder, split, pipeline=steps)
    if split == 'val':
        evaluated(cfg, file)
    try:
        check_data(cfg, (split,))
    except (ValueError, FileNotFoundError) as error:
        return _one_line(error)
    _train_on(cfg, split)
    if split == 'val':
        _evaluate(file)
    return ''


def _play_voc(root, context, values):
    if context == 'localization':
        write_xml(root / 'xml' / 'a.xml', values)
        return _play_localization(root / 'xml', root / 'named', 'ilsvrc', root / 'synsets.list')
    write_xml(root / 'voc' / 'Annotations' / 'a.xml', values)
    cfg = voc_cfg(root / 'voc', context)
    try:
        check_data(cfg, (context,))
    except (ValueError, FileNotFoundError) as error:
        return _one_line(error)
    _train_on(cfg, context)
    return ''


def _play_kaggle(root, place, word):
    row, column = place
    rows = copy.deepcopy(KAGGLE)
    words = words_of(rows[row])
    field = ('ImageId', 'PredictionString')[min(column, 1)]
    if word is ABSENT and column == 0:
        rows[row] = rows[row][1:]
    else:
        words[column] = '' if word is ABSENT else word
        rows[row] = [words[0], ' '.join(w for w in words[1:] if w)]
    file = root / 'boxes.csv'
    file.write_text('\n'.join(','.join(row) for row in rows) + '\n')
    sentence = _play_localization(file, root / 'flat', 'kaggle', root / 'synsets.list')
    return sentence, [
        'boxes.csv',
        f'line {row + 1}|first line|image|{word}',
        f'{field}|image|class|box',
    ]


def _play_lines(root, layout, place, word):
    file, row, column = place
    files = copy.deepcopy(WSOL if layout == 'wsol' else CUB)
    field = LAYOUTS[layout][file][column].name
    fields = files[file][row]
    if word is ABSENT:
        del fields[column]
    else:
        fields[column] = word
    separator = ',' if layout == 'wsol' else ' '
    for name, rows in files.items():
        text = '\n'.join(separator.join(row) for row in rows) + '\n'
        (root / layout / name).write_text(text)
    sentence = _play_localization(root / layout, root / 'flat', layout)
    if word == WORDS['blank inside']:  # the words after it are taken for the next fields
        field = ''
    return sentence, [layout, f'line {row + 1}|image|class|box ', f'{field}|image|class|box ']


# ---------------------------------------------------------------------- who reads what is taken


def _play_localization(path, images, fmt, synsets=None):
    try:
        found = load_annotations(path, images, fmt, synsets, 'test', 2, CLASSES)
    except (ValueError, FileNotFoundError) as error:
        return _one_line(error)
    try:
        check_labels(found, 2)
    except ValueError as error:
        return f'{path}: {_one_line(error)}'
    for entry in found.images:
        assert isinstance(entry.label, int)
        boxes = np.array(entry.boxes_xyxy, float)
        height, width = entry.size
        assert boxes.shape[1:] == (4,)
        assert (boxes >= 0).all() and (boxes[:, 2:] <= (width, height)).all(), entry
        assert (boxes[:, 2:] > boxes[:, :2]).all(), entry
    said = '; '.join(f'{p.kind}: {p.key}: {p.detail}' for p in found.problems)
    return f'{path} and {images}: {said}' if said else ''  # as the tool says it


def _train_on(cfg, split):
    """Read every image with mmdet's own data set and pipeline."""
    from mmdet.registry import DATASETS
    from mmdet.utils import register_all_modules

    register_all_modules()
    data = DATASETS.build(cfg[f'{split}_dataloader'].dataset)
    for index in range(len(data)):
        item = data[index]
        if 'data_samples' in item:
            boxes = item['data_samples'].gt_instances.bboxes.tensor
            assert boxes.isfinite().all()


def _evaluate(file):
    """One detection on each image, judged by pycocotools."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with open(os.devnull, 'w') as nothing, redirect_stdout(nothing):
        truth = COCO(str(file))
        found = [
            dict(image_id=i, category_id=c, bbox=[2, 3, 10, 8], score=0.9)
            for i in truth.getImgIds()
            for c in truth.getCatIds()
        ]
        evaluation = COCOeval(truth, truth.loadRes(found), 'bbox')
        evaluation.evaluate()
        evaluation.accumulate()


def misses(sentence, words):
    """What of file, entry and field a sentence does not name."""
    if 'is not XML' in sentence:  # there are no entries and fields in it
        words = words[:1]
    return [word for word in words if not re.search(_any(word), sentence)]


def _any(words):
    return '|'.join(re.escape(word) for word in words.split('|')) if words else ''
