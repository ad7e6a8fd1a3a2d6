"""Each kind of bad data: the sentence names the file, what was found, and the way out."""

import io

import pytest
from mmengine.config import Config, ConfigDict
from PIL import Image

pytest.importorskip('mmdet')

from mmattn.data.checks import check_data, find_broken_images, image_paths  # noqa: E402
from tests.data.sets import coco_cfg, voc_cfg, voc_object, write_coco, write_voc  # noqa: E402


def check(cfg):
    return check_data(cfg, ('train', 'val', 'test'))


def test_good_data_gives_no_word(tmp_path):
    assert check(coco_cfg(write_coco(tmp_path / 'c'))) == []
    assert check(voc_cfg(write_voc(tmp_path / 'v'))) == []
    wrapped = coco_cfg(tmp_path / 'c')
    inner = wrapped.train_dataloader.dataset
    both = dict(
        type='ConcatDataset', datasets=[inner, voc_cfg(tmp_path / 'v').train_dataloader.dataset]
    )
    wrapped.train_dataloader.dataset = ConfigDict(type='RepeatDataset', times=3, dataset=both)
    assert check(wrapped) == []
    assert len(image_paths(wrapped)) == 4


def set_value(*path, to):
    def change(content):
        for key in path[:-1]:
            content = content[key]
        content[path[-1]] = to

    return change


def remove(*path):
    def change(content):
        for key in path[:-1]:
            content = content[key]
        del content[path[-1]]

    return change


def rename(old, new):
    def change(content):
        content[new] = content.pop(old)

    return change


@pytest.mark.parametrize(
    'change, message',
    [
        (set_value('images', to=[]), r'boxes\.json lists no image, the set is empty'),
        (remove('categories'), r"boxes\.json must hold a list 'categories' as COCO does"),
        (
            rename('annotations', 'annotation'),
            r"'annotations' as COCO does \(it has 'annotation'\)",
        ),
        (remove('images', 0, 'width'), r"boxes\.json: images\[0\] \(id 1\): has no 'width'"),
        (
            remove('annotations', 1, 'area'),
            r"boxes\.json: annotations\[1\] \(id 2\): has no 'area'",
        ),
        (
            set_value('annotations', 0, 'category_id', to=8),
            r'annotations\[0\] \(id 1\): category_id 8 is of no category; the categories .* 7, 9',
        ),
        (
            set_value('categories', 1, 'name', to='wolf'),
            r'the classes dog are not among the categories of .*boxes\.json, which are cat, wolf',
        ),
        (
            lambda content: content['categories'].reverse(),
            r"write them in that order: \('dog', 'cat'\)",
        ),
        (
            set_value('annotations', 1, 'id', to=1),
            r'boxes\.json: annotations\[1\]: has the id 1 of annotations\[0\] too',
        ),
        (
            set_value('images', 1, 'file_name', to='3.jpg'),
            r'1 of the 2 images of .*boxes\.json are missing: 3\.jpg is not in .*images '
            r'\(the nearest there is 2\.jpg\); set data_root',
        ),
    ],
    ids=[
        'empty',
        'no categories',
        'misspelt key',
        'no width',
        'no area',
        'unknown category id',
        'unknown class',
        'exchanged classes',
        'same id twice',
        'missing image',
    ],
)
def test_bad_coco_files_are_refused(tmp_path, change, message):
    root = write_coco(tmp_path, change)
    error = FileNotFoundError if 'missing' in message else ValueError
    with pytest.raises(error, match=message):
        check(coco_cfg(root))


def test_a_file_that_is_no_json_is_refused(tmp_path):
    root = write_coco(tmp_path)
    (root / 'boxes.json').write_text('{"images": [')
    with pytest.raises(ValueError, match=r'train_dataloader\.dataset: .*boxes\.json is not JSON'):
        check(coco_cfg(root))


@pytest.mark.parametrize('split', ['train', 'val', 'test'])
def test_a_missing_annotation_file_names_the_data_set_of_the_config(tmp_path, split):
    root = write_coco(tmp_path)
    with pytest.raises(
        FileNotFoundError, match=rf'{split}_dataloader\.dataset: the annotation file .*no\.json'
    ):
        check(coco_cfg(root, split, ann_file='no.json'))


def test_a_missing_image_folder_is_named(tmp_path):
    root = write_coco(tmp_path)
    with pytest.raises(FileNotFoundError, match=r'is not there, nor is its folder .*photos'):
        check(coco_cfg(root, data_prefix=dict(img='photos/')))


def test_boxes_of_no_size_in_coco_are_counted_since_the_host_drops_them(tmp_path):
    root = write_coco(tmp_path, set_value('annotations', 0, 'bbox', to=[4, 4, 0, 6]))
    (note,) = check(coco_cfg(root))
    assert 'mmdet leaves out 1 boxes under one pixel, such as annotation id 1, bbox ' in note
    assert '[4, 4, 0, 6], area 80, in 1.jpg; their objects count as background' in note
    from mmdet.datasets import CocoDataset

    options = dict(coco_cfg(root).train_dataloader.dataset)
    options.pop('type')
    data = CocoDataset(**options)
    assert [len(data.get_data_info(i)['instances']) for i in range(2)] == [0, 1]


def test_boxes_of_unlisted_images_are_counted(tmp_path):
    root = write_coco(tmp_path, set_value('annotations', 0, 'image_id', to=55))
    (note,) = check(coco_cfg(root))
    assert 'leaves out 1 boxes of images that are not listed, such as annotation id 1' in note


@pytest.mark.parametrize('make, cfg_of', [(write_coco, coco_cfg), (write_voc, voc_cfg)])
def test_filters_that_leave_nothing_are_refused_as_the_host_would_apply_them(
    tmp_path, make, cfg_of
):
    cfg = cfg_of(make(tmp_path), filter_cfg=dict(min_size=31))
    with pytest.raises(
        ValueError,
        match=r'none of the 2 images of .* is left: filter_cfg=.* with a side under min_size=31',
    ):
        check(cfg)
    assert check(cfg_of(tmp_path, filter_cfg=dict(min_size=30))) == []


@pytest.mark.parametrize(
    'objects, message',
    [
        (
            voc_object(corners=(5, 6, 5, 6)),
            r'1 of 2 boxes have no width or no height, such as cat \[5, 6, 5, 6\] in object 1 of '
            r'.*a\.xml; '
            r'leave them out with .*train_dataloader\.dataset\.filter_cfg\.bbox_min_size=1',
        ),
        (
            voc_object('Cat'),
            r"no box has the class 'cat', but the files of .*list\.txt have Cat \(1 boxes\)",
        ),
        ('<object><name>cat</name></object>', r"a\.xml: object 1: has no 'bndbox'"),
        (
            voc_object(corners=(5, 6, 'x', 6)),
            r"a\.xml: object 1: xmax must be a finite number of pixels.*, got the text 'x'",
        ),
        ('<object>', r'a\.xml is not XML'),
    ],
    ids=['no size', 'class in capitals', 'no corners', 'no number', 'no XML'],
)
def test_bad_voc_files_are_refused(tmp_path, objects, message):
    with pytest.raises(ValueError, match=message):
        check(voc_cfg(write_voc(tmp_path, objects)))


@pytest.mark.parametrize(
    'names, error, message',
    [
        ((), ValueError, r'list\.txt lists no image, the set is empty'),
        (('a', ''), ValueError, r'line 2 of .*list\.txt must be one image name'),
        (('a 1',), ValueError, r"without its suffix, got 'a 1'"),
        (('a', 'a'), ValueError, r'list\.txt lists a twice'),
        (('a', 'c'), FileNotFoundError, r'the annotation file .*c\.xml cannot be read'),
    ],
    ids=['empty', 'empty line', 'two words', 'twice', 'no such file'],
)
def test_bad_voc_lists_are_refused(tmp_path, names, error, message):
    with pytest.raises(error, match=message):
        check(voc_cfg(write_voc(tmp_path, names=names)))


def test_the_way_out_for_boxes_of_no_size_works(tmp_path):
    root = write_voc(tmp_path, voc_object(corners=(5, 6, 5, 6)))
    assert check(voc_cfg(root, filter_cfg=dict(bbox_min_size=1))) == []
    assert check(voc_cfg(root, pipeline=[dict(type='FilterAnnotations')])) == []
    (note,) = check(voc_cfg(root, 'val'))  # to test with such a box is possible, and is said
    assert 'each counts as one object that was not found' in note


def test_the_training_option_is_refused_in_testing_before_the_host_asserts(tmp_path):
    cfg = voc_cfg(write_voc(tmp_path), 'test', filter_cfg=dict(bbox_min_size=1))
    with pytest.raises(ValueError, match='bbox_min_size is for training only'):
        check(cfg)


def test_other_classes_in_voc_are_counted_and_no_common_class_is_refused(tmp_path):
    root = write_voc(tmp_path, voc_object('bicycle') + voc_object('bicycle'))
    (note,) = check(voc_cfg(root))
    assert note.endswith('boxes of other classes are not used: bicycle (2 boxes)')
    with pytest.raises(ValueError, match=r'has one of the classes bird; the files have bicycle'):
        check(voc_cfg(root, metainfo=dict(classes=('bird',))))


def damage(path, how):
    content = path.read_bytes()
    path.write_bytes(
        {'empty': b'', 'garbage': b'x' * 99, 'cut': content[: len(content) // 2]}[how]
    )


@pytest.mark.parametrize(
    'how, problem', [('empty', 'empty'), ('garbage', 'no'), ('cut', 'damaged')]
)
def test_damaged_images_are_named(tmp_path, how, problem):
    root = write_coco(tmp_path)
    bad = root / 'images' / '2.jpg'
    damage(bad, how)
    with pytest.raises(ValueError, match=rf'the image .*2\.jpg cannot be used: .*{problem}.*repl'):
        check(coco_cfg(root))
    cfg = coco_cfg(root)
    assert list(find_broken_images(image_paths(cfg))) == [str(bad)]


def test_a_whole_image_with_bytes_behind_its_end_is_fine(tmp_path):
    root = write_coco(tmp_path)
    path = root / 'images' / '2.jpg'
    path.write_bytes(path.read_bytes() + b'made with a camera')
    assert check(coco_cfg(root)) == []


def test_other_image_formats_are_fine(tmp_path):
    root = write_coco(tmp_path)
    stream = io.BytesIO()
    Image.new('RGB', (40, 30)).save(stream, 'BMP')
    (root / 'images' / '1.jpg').write_bytes(stream.getvalue())
    assert check(coco_cfg(root)) == []


def test_a_misspelt_option_gets_the_nearest_one(tmp_path):
    cfg = coco_cfg(write_coco(tmp_path), data_prefx=dict(img=''))
    with pytest.raises(
        ValueError, match=r"CocoDataset has no option 'data_prefx', did you mean 'data_prefix'"
    ):
        check(cfg)


@pytest.mark.parametrize(
    'number, outcome',
    [(1, 'has 2 classes, the model num_classes=1: set num_classes'), (2, None), (5, '3 outputs')],
)
@pytest.mark.parametrize('two_stage', [True, False])
def test_the_number_of_classes_of_the_model(tmp_path, number, outcome, two_stage):
    cfg = coco_cfg(write_coco(tmp_path))
    head = dict(bbox_head=dict(num_classes=number))
    cfg.model = dict(roi_head=head) if two_stage else head
    if number == 1:
        with pytest.raises(ValueError, match=outcome):
            check(cfg)
    else:
        notes = check(cfg)
        assert [outcome in note for note in notes] == ([] if outcome is None else [True])


def test_an_evaluator_that_reads_another_file_is_told(tmp_path):
    root = write_coco(tmp_path / 'a')
    other = write_coco(tmp_path / 'b') / 'boxes.json'
    cfg = coco_cfg(root, 'val')
    cfg.val_evaluator = dict(type='CocoMetric', ann_file=str(other))
    (note,) = check(cfg)
    assert f'images come from {root}/boxes.json, but are judged by {other}' in note
    cfg.val_evaluator.ann_file = 'gone.json'
    with pytest.raises(FileNotFoundError, match=r'gone\.json does not exist; the data set reads'):
        check(cfg)


def test_data_that_is_not_in_local_files_is_not_looked_at(tmp_path):
    assert check(coco_cfg('s3://bucket/coco')) == []


def test_data_sets_of_other_hosts_are_left_to_them(tmp_path):
    cfg = Config(dict(default_scope='mmengine', train_dataloader=dict(dataset=dict(type='X'))))
    assert check_data(cfg) == []
