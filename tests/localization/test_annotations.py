"""Every annotation format, every kind of mismatch."""

import json

import pytest

from mmattn.localization.annotations import detect_format, load_annotations
from tests.localization.data import boxes_json, image

XML = """<annotation><folder>val</folder><filename>{name}</filename>
<size><width>40</width><height>30</height><depth>3</depth></size>{objects}</annotation>"""
OBJECT = """<object><name>{wnid}</name><bndbox><xmin>{0}</xmin><ymin>{1}</ymin><xmax>{2}</xmax>
<ymax>{3}</ymax></bndbox></object>"""


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def image_files(root, *names, size=(40, 30)):
    for i, name in enumerate(names):
        image(root / name, *size, seed=i)
    return root


def facts(found):
    return [(p.key, p.label, p.boxes_xyxy, p.size) for p in found.images]


def xml(name, *objects):
    boxes = ''.join(OBJECT.format(*box, wnid=wnid) for wnid, box in objects)
    return XML.format(name=name, objects=boxes)


@pytest.mark.parametrize('nested', [False, True], ids=['flat', 'folder per class'])
def test_ilsvrc_xml(tmp_path, nested):
    sub = ('n02/', 'n01/') if nested else ('', '')
    images = image_files(tmp_path / 'val', f'{sub[0]}a.JPEG', f'{sub[1]}b.JPEG')
    boxes = tmp_path / 'xml'
    write(boxes / sub[0] / 'a.xml', xml('a', ('n02', (1, 2, 30, 20)), ('n02', (3, 4, 9, 9))))
    write(boxes / sub[1] / 'b.xml', xml('b', ('n01', (0, 0, 40, 30))))
    assert detect_format(boxes) == 'ilsvrc'
    found = load_annotations(boxes, images)
    assert found.classes == ('n01', 'n02')
    assert sorted(facts(found)) == [
        ('a', 1, ((1.0, 2.0, 30.0, 20.0), (3.0, 4.0, 9.0, 9.0)), (30, 40)),
        ('b', 0, ((0, 0, 40, 30),), (30, 40)),
    ]
    assert found.problems == ()
    assert found.images[0].path.is_file()


def test_labels_come_from_the_synset_file(tmp_path):
    images = image_files(tmp_path / 'val', 'a.JPEG')
    boxes = write(tmp_path / 'xml/a.xml', xml('a', ('n02', (1, 2, 30, 20)))).parent
    with pytest.raises(ValueError, match='name 1 classes and the classifier has 3, .* --synsets'):
        load_annotations(boxes, images, num_classes=3)
    names = write(tmp_path / 'names.txt', 'n00 tench\nn01 goldfish, fish\nn02 shark\n')
    found = load_annotations(boxes, images, synsets=names, num_classes=3)
    assert found.images[0].label == 2
    assert found.classes == ('tench', 'goldfish, fish', 'shark')
    names.rename(tmp_path / 'LOC_synset_mapping.txt')  # found beside the annotations
    assert load_annotations(boxes, images, num_classes=3).images[0].label == 2
    with pytest.raises(ValueError, match='synsets: .*nope.txt does not exist'):
        load_annotations(boxes, images, synsets=tmp_path / 'nope.txt')


def test_kaggle_csv(tmp_path):
    images = image_files(tmp_path / 'val', 'a.JPEG', 'b.JPEG', 'c.JPEG')
    path = write(
        tmp_path / 'LOC_val_solution.csv',
        'ImageId,PredictionString\na,n01 1 2 30 20 n01 5 5 9 9 \nb,n02 0 0 40 30 \nc,n01 1 2 3\n',
    )
    found = load_annotations(path, images)
    assert facts(found) == [
        ('a', 0, ((1.0, 2.0, 30.0, 20.0), (5.0, 5.0, 9.0, 9.0)), (30, 40)),
        ('b', 1, ((0, 0, 40, 30),), (30, 40)),
    ]
    (problem,) = found.problems
    assert (problem.kind, problem.key) == ('unreadable annotation', 'c')
    assert 'line 4 (c): PredictionString must be groups of 5 words' in problem.detail
    assert 'got 4: the text' in problem.detail


def test_wsolevaluation_metadata(tmp_path):
    images = image_files(tmp_path, 'val2/0/0.jpeg', 'val2/1/0.jpeg', 'train/x.jpeg')
    folder = tmp_path / 'metadata'
    write(folder / 'image_ids.txt', 'val2/0/0.jpeg\nval2/1/0.jpeg\n')
    write(folder / 'class_labels.txt', 'val2/0/0.jpeg,0\nval2/1/0.jpeg,1\n')
    write(folder / 'image_sizes.txt', 'val2/0/0.jpeg,40,30\nval2/1/0.jpeg,40,30\n')
    text = 'val2/0/0.jpeg,1,2,30,20\nval2/1/0.jpeg,0,0,9,9\nval2/1/0.jpeg,5,5,20,20\n'
    write(folder / 'localization.txt', text)
    assert detect_format(folder) == 'wsol'
    found = load_annotations(folder, images)
    assert facts(found) == [
        ('val2/0/0.jpeg', 0, ((1, 2, 30, 20),), (30, 40)),
        ('val2/1/0.jpeg', 1, ((0, 0, 9, 9), (5, 5, 20, 20)), (30, 40)),
    ]
    assert found.problems == ()
    assert found.images[1].path == images / 'val2/1/0.jpeg'
    (folder / 'localization.txt').write_text('val2/0/0.jpeg,1,2\n')
    problem = load_annotations(folder, images).problems[0]
    assert 'localization.txt: line 1: must hold image, x0, y0, x1, y1, got ' in problem.detail


def test_cub(tmp_path):
    names = ['001.Albatross/a.jpg', '002.Auklet/b.jpg', '002.Auklet/c.jpg']
    images = image_files(tmp_path / 'images', *names)
    write(tmp_path / 'images.txt', ''.join(f'{i} {n}\n' for i, n in enumerate(names, 1)))
    write(tmp_path / 'classes.txt', '1 001.Albatross\n2 002.Auklet\n')
    write(tmp_path / 'image_class_labels.txt', '1 1\n2 2\n3 2\n')
    write(tmp_path / 'bounding_boxes.txt', '1 1.0 2.0 10.0 5.0\n2 0 0 40 30\n3 5.0 5.0 8.0 8.0\n')
    write(tmp_path / 'train_test_split.txt', '1 0\n2 1\n3 0\n')
    assert detect_format(tmp_path) == 'cub'
    found = load_annotations(tmp_path, images)
    assert found.classes == ('001.Albatross', '002.Auklet')
    assert facts(found) == [
        (names[0], 0, ((1, 2, 11, 7),), (30, 40)),
        (names[2], 1, ((5, 5, 13, 13),), (30, 40)),
    ]
    assert found.problems == ()  # images of the other split are no mismatch
    assert [p.key for p in load_annotations(tmp_path, images, split='train').images] == names[1:2]
    assert len(load_annotations(tmp_path, images, split='all').images) == 3


def test_coco(tmp_path):
    images = image_files(tmp_path / 'val', 'a.jpg', 'b.jpg', 'c.jpg', 'd.jpg')
    found_in = [
        dict(image_id=7, category_id=90, bbox=[1, 2, 10, 5]),
        dict(image_id=7, category_id=90, bbox=[0, 0, 40, 30]),
        dict(image_id=7, category_id=3, bbox=[0, 0, 4, 3], iscrowd=1),
        dict(image_id=8, category_id=3, bbox=[1, 1, 2, 2]),
        dict(image_id=9, category_id=3, bbox=[1, 1, 2, 2]),
        dict(image_id=9, category_id=90, bbox=[1, 1, 2, 2]),
    ]
    listed = [
        dict(id=i, file_name=f'{n}.jpg', width=40, height=30)
        for i, n in ((7, 'a'), (8, 'b'), (9, 'c'), (10, 'd'))
    ]
    categories = [dict(id=90, name='dog'), dict(id=3, name='cat')]
    data = dict(images=listed, annotations=found_in, categories=categories)
    path = write(tmp_path / 'instances.json', json.dumps(data))
    assert detect_format(path) == 'coco'
    found = load_annotations(path, images)
    assert found.classes == ('cat', 'dog')
    assert facts(found) == [
        ('a.jpg', 1, ((1, 2, 11, 7), (0, 0, 40, 30)), (30, 40)),
        ('b.jpg', 0, ((1, 1, 3, 3),), (30, 40)),
        ('c.jpg (cat)', 0, ((1, 1, 3, 3),), (30, 40)),  # one entry a class
        ('c.jpg (dog)', 1, ((1, 1, 3, 3),), (30, 40)),
    ]
    assert [image.path.name for image in found.images[2:]] == ['c.jpg', 'c.jpg']
    assert found.problem_counts() == {'image without boxes': 1}
    write(path, '{"images": []}')
    with pytest.raises(ValueError, match="must hold a list 'annotations' as COCO does"):
        load_annotations(path, images)


def test_boxes_json(tmp_path):
    images, path = boxes_json(tmp_path, 3)
    assert detect_format(path) == 'boxes'
    found = load_annotations(path, images)
    assert facts(found)[1] == ('p1.png', 1, ((8, 12, 16, 24),), (48, 32))
    write(path, '[{"file": "p0.png", "boxes": []}]')
    assert "entry 0: has no 'label'" in load_annotations(path, images).problems[0].detail
    write(path, '[{"file": "p0.png", "label": 0, "boxes": [[1, 2, 3]]}]')
    detail = load_annotations(path, images).problems[0].detail
    assert 'entry 0: boxes must be a list of boxes [x0, y0, x1, y1] of four' in detail
    assert 'got the list [[1, 2, 3]]' in detail


@pytest.mark.parametrize('label', ['"cat"', '"1"', 'null', '0.5', 'true', 'NaN', 'Infinity'])
def test_labels_are_whole_numbers(tmp_path, label):
    images, path = boxes_json(tmp_path, 1)
    write(path, f'[{{"file": "p0.png", "label": {label}, "boxes": [[1, 2, 3, 4]]}}]')
    (problem,) = load_annotations(path, images).problems
    assert problem.kind == 'unreadable annotation'
    assert 'boxes.json: entry 0: label must be a whole number, the index' in problem.detail


@pytest.mark.parametrize('text', ['[{"file":', '{"images":'])
def test_json_cut_short(tmp_path, text):
    images, path = boxes_json(tmp_path, 1)
    write(path, text)
    with pytest.raises(ValueError, match='annotations: .*boxes.json is not JSON: '):
        load_annotations(path, images)


def dirty(tmp_path, **change):
    images, path = boxes_json(tmp_path, 3)
    items = json.loads(path.read_text())
    items[1].update(change)
    path.write_text(json.dumps(items))
    return images, path


@pytest.mark.parametrize(
    ('change', 'kind', 'detail', 'kept'),
    [
        (dict(file='gone.png'), 'missing file', 'no such image in the folder', False),
        (dict(file='p0.png'), 'duplicate id', 'annotated twice', False),
        (dict(boxes=[]), 'image without boxes', 'no box', False),
        (dict(boxes=[[5, 5, 5, 9]]), 'empty box', r'\[5.0, 5.0, 5.0, 9.0\]', False),
        (dict(boxes=[[5, 9, 9, 2], [1, 1, 9, 9]]), 'empty box', '9.0', True),
        (
            dict(boxes=[[float('nan'), 1, 2, 3]]),
            'unreadable annotation',
            'boxes must .*nan',
            False,
        ),
        (dict(boxes=[[-9, 0, 9, 9]]), 'box outside the image', 'of 32 x 48', True),
        (dict(boxes=[[0, 0, 33.5, 48]]), 'box outside the image', 'of 32 x 48', True),
        (dict(boxes=[[50, 0, 60, 9]]), 'box outside the image', 'of 32 x 48', False),
    ],
)
def test_mismatches_are_named(tmp_path, change, kind, detail, kept):
    import re

    found = load_annotations(*dirty(tmp_path, **change)[::-1])
    problem = next(p for p in found.problems if p.kind == kind)
    assert re.search(detail, problem.detail)
    assert ('p1.png' in [p.key for p in found.images]) == kept
    for entry in found.images:
        height, width = entry.size
        for x0, y0, x1, y1 in entry.boxes_xyxy:
            assert 0 <= x0 < x1 <= width
            assert 0 <= y0 < y1 <= height


def test_one_pixel_over_the_edge_is_convention_not_error(tmp_path):
    found = load_annotations(*dirty(tmp_path, boxes=[[0, 0, 33, 49]])[::-1])
    assert found.problems == ()
    assert found.images[1].boxes_xyxy == ((0, 0, 32, 48),)


def test_boxes_are_checked_against_the_file_where_no_size_is_given(tmp_path):
    images = image_files(tmp_path / 'val', 'a.JPEG')
    path = write(tmp_path / 'x.csv', 'ImageId,PredictionString\na,n01 1 2 300 20\n')
    found = load_annotations(path, images)
    assert found.problem_counts() == {'box outside the image': 1}


def test_images_without_annotation_and_unknown_classes(tmp_path):
    images = image_files(tmp_path / 'val', 'a.JPEG', 'b.JPEG')
    boxes = write(tmp_path / 'xml/a.xml', xml('a', ('n09', (1, 2, 30, 20)))).parent
    names = write(tmp_path / 'names.txt', 'n00\nn01\n')
    found = load_annotations(boxes, images, synsets=names)
    assert [(p.kind, p.key) for p in found.problems] == [
        ('unknown class', 'a'),
        ('image without boxes', 'b.JPEG'),
    ]
    assert found.images == ()


def test_two_images_of_one_name(tmp_path):
    images = image_files(tmp_path / 'val', 'x/a.JPEG', 'y/a.JPEG')
    boxes = write(tmp_path / 'xml/a.xml', xml('a', ('n01', (1, 2, 30, 20)))).parent
    found = load_annotations(boxes, images)
    assert found.problems[0].detail == '2 images have this name: a.JPEG, a.JPEG'


def test_broken_xml(tmp_path):
    images = image_files(tmp_path / 'val', 'a.JPEG')
    boxes = write(tmp_path / 'xml/a.xml', '<annotation><object>').parent
    found = load_annotations(boxes, images)
    assert found.problems[0].kind == 'unreadable annotation'


def test_nothing_there(tmp_path):
    images, path = boxes_json(tmp_path, 1)
    with pytest.raises(ValueError, match='annotations: .*nope does not exist'):
        load_annotations(tmp_path / 'nope', images)
    with pytest.raises(ValueError, match='images: .*nope is no folder'):
        load_annotations(path, tmp_path / 'nope')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(ValueError, match='images: no images in .*empty'):
        load_annotations(path, tmp_path / 'empty')
    with pytest.raises(ValueError, match='none of the known formats .ilsvrc, kaggle, wsol, cub'):
        load_annotations(tmp_path / 'empty', images)
    with pytest.raises(ValueError, match="format must be one of ilsvrc, .* got 'voc'"):
        load_annotations(path, images, 'voc')
