"""Troubles that people reported of other tools, small: what the check before a run says."""

import pytest

pytest.importorskip('mmdet')

from mmattn.data.checks import check_data  # noqa: E402
from tests.data.sets import (  # noqa: E402
    coco_cfg,
    evaluated,
    image,
    voc_cfg,
    voc_object,
    write_coco,
    write_voc,
)


def each(group, **values):
    return lambda content: [entry.update(values) for entry in content[group]]


def drop_iscrowd(content):
    for annotation in content['annotations']:
        del annotation['iscrowd']


def test_a_validation_file_without_iscrowd(tmp_path):
    cfg = coco_cfg(write_coco(tmp_path, drop_iscrowd), 'val')
    assert check_data(cfg, ('val',)) == []
    message = r"boxes\.json: annotations\[0\] \(id 1\): has no 'iscrowd' \(2 such entries\)"
    with pytest.raises(ValueError, match=message):
        check_data(evaluated(cfg, tmp_path / 'boxes.json'), ('val',))


def test_sizes_that_disagree(tmp_path):
    cfg = coco_cfg(write_coco(tmp_path / 'c', each('images', width=80, height=60)))
    with pytest.raises(ValueError, match=r'says 80 x 60 of .*1\.jpg, which is 40 x 30 \(2 of 2'):
        check_data(cfg, ('train',))
    with pytest.raises(ValueError, match=r'a\.xml says 80 x 60 of .*a\.jpg, which is 40 x 30'):
        check_data(voc_cfg(write_voc(tmp_path / 'v', size=(80, 60))), ('train',))
    root = write_coco(tmp_path / 'e')
    image(root / 'images' / '1.jpg', orientation=6)
    with pytest.raises(ValueError, match='turned upright by its EXIF orientation 6'):
        check_data(coco_cfg(root), ('train',))


def test_areas_of_zero(tmp_path):
    with pytest.raises(ValueError, match=r'all of its boxes: 2 boxes of area 0 \(write width \*'):
        check_data(coco_cfg(write_coco(tmp_path, each('annotations', area=0))), ('train',))


@pytest.mark.parametrize('field', ['image_id', 'category_id'])
def test_ids_as_text(tmp_path, field):
    cfg = coco_cfg(write_coco(tmp_path, each('annotations', **{field: '1'})))
    with pytest.raises(ValueError, match=f"{field} must be a whole number, .* got the text '1'"):
        check_data(cfg, ('train',))


def test_a_missing_comma(tmp_path):
    cfg = coco_cfg(write_coco(tmp_path), metainfo=dict(classes='balloon'))
    with pytest.raises(ValueError, match=r"classes is the text 'balloon', .*write \('balloon',\)"):
        check_data(cfg, ('train',))


def test_another_suffix(tmp_path):
    root = write_voc(tmp_path, suffix='.png')
    for name in ('a', 'b'):
        (root / 'JPEGImages' / f'{name}.jpg').unlink(missing_ok=True)
    with pytest.raises(FileNotFoundError, match=r"a\.png \(another suffix\): mmdet's VOC reader"):
        check_data(voc_cfg(root), ('train',))


def test_objects_without_a_name_or_with_a_word_for_difficult(tmp_path):
    with pytest.raises(ValueError, match=r'a\.xml: object 1: name must be a text that is not'):
        check_data(voc_cfg(write_voc(tmp_path / 'n', voc_object(''))), ('train',))
    word = voc_object(more='<difficult>Unspecified</difficult>')
    with pytest.raises(ValueError, match=r'a\.xml: object 1: difficult must be 0 or 1, got'):
        check_data(voc_cfg(write_voc(tmp_path / 'd', word)), ('train',))
