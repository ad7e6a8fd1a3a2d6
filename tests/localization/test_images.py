"""Reading, resizing, and the exact way back to image pixels."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mmattn.localization.images import ImageDataset, Preprocess, collate, read_in_frame
from mmattn.localization.structures import AnnotatedImage, Geometry
from tests.localization.data import image


@pytest.mark.parametrize('mode', ['RGB', 'L', 'P', 'RGBA', 'LA', '1'])
def test_modes(tmp_path, mode):
    path = image(tmp_path / 'x.png', 20, 12, mode=mode)
    read = read_in_frame(path)
    assert (read.mode, read.size) == ('RGB', (20, 12))
    assert np.asarray(read)[4, 6].min() > 200  # the bright square is still bright


def test_cmyk(tmp_path):
    path = image(tmp_path / 'x.jpg', 20, 12, mode='CMYK')
    assert Image.open(path).mode == 'CMYK'
    assert np.asarray(read_in_frame(path))[4, 6].min() > 200


def test_sixteen_bits(tmp_path):
    array = np.zeros((12, 20), np.uint16)
    array[3, 5], array[4, 6] = 65535, 257 * 200
    Image.fromarray(array).save(tmp_path / 'x.png')
    read = np.asarray(read_in_frame(tmp_path / 'x.png'))
    assert read[3, 5].tolist() == [255] * 3
    assert read[4, 6].tolist() == [200] * 3
    assert read[0, 0].tolist() == [0] * 3


def turned(path, orientation):
    array = np.zeros((10, 20, 3), np.uint8)
    array[0, 0] = 255  # top left as stored
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(array).save(path, exif=exif)
    return path


def test_exif_rotation(tmp_path):
    path = turned(tmp_path / 'x.png', 6)  # shown a quarter turn clockwise
    read = np.asarray(read_in_frame(path))
    assert read.shape == (20, 10, 3)
    assert read[0, 9, 0] == 255
    upright = np.asarray(read_in_frame(path, (20, 10)))
    np.testing.assert_array_equal(upright, read)


def test_exif_rotation_is_left_where_the_boxes_belong_to_the_stored_image(tmp_path):
    path = turned(tmp_path / 'x.png', 6)
    read = np.asarray(read_in_frame(path, (10, 20)))
    assert read.shape == (10, 20, 3)
    assert read[0, 0, 0] == 255


def test_unreadable(tmp_path):
    (tmp_path / 'x.jpg').write_bytes(b'no image')
    with pytest.raises(ValueError, match='cannot decode .*x.jpg'):
        read_in_frame(tmp_path / 'x.jpg')
    whole = image(tmp_path / 'y.png', 60, 60).read_bytes()
    (tmp_path / 'y.png').write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match='cannot decode .*y.png'):
        read_in_frame(tmp_path / 'y.png')
    path = image(tmp_path / 'z.png', 20, 12)
    with pytest.raises(ValueError, match='is 20 x 12, the annotations say 30 x 20'):
        read_in_frame(path, (20, 30))


def test_plain_resize_maps_boxes():
    geometry = Preprocess(input_size=(100, 50)).apply(Image.new('RGB', (200, 400)))[1]
    assert geometry.to_image([[0, 0, 50, 100]]).tolist() == [[0, 0, 200, 400]]
    assert geometry.to_image([[10, 10, 20, 30]]).tolist() == [[40, 40, 80, 120]]
    assert geometry.to_input([[40, 40, 80, 120]]).tolist() == [[10, 10, 20, 30]]


def test_centre_crop_maps_boxes():
    prep = Preprocess(input_size=(100, 100), crop_from=200)
    image = Image.new('RGB', (800, 400))  # becomes 400 x 200, cut from x 150, y 50
    image.paste((255, 255, 255), (400, 200, 500, 300))
    array, geometry = prep.apply(image)
    assert array.shape == (100, 100, 3)
    assert geometry.to_input([[400, 200, 500, 300]]).tolist() == [[50, 50, 100, 100]]
    assert array[60:90, 60:90].min() == 255
    assert array[:45, :45].max() == 0
    assert geometry.to_image([[50, 50, 100, 100]]).tolist() == [[400, 200, 500, 300]]
    assert geometry.to_input([[0, 0, 100, 100]]).tolist() == [[0, 0, 0, 0]]  # cut away


@given(
    width=st.integers(1, 400),
    height=st.integers(1, 400),
    crop=st.sampled_from([None, 32, 40]),
    box=st.tuples(*[st.floats(0, 24)] * 4),
)
def test_there_and_back(width, height, crop, box):
    prep = Preprocess(input_size=(24, 32), crop_from=crop)
    geometry = prep.apply(Image.new('RGB', (width, height)))[1]
    x0, y0, x1, y1 = min(box[::2]), min(box[1::2]), max(box[::2]), max(box[1::2])
    back = geometry.to_input(geometry.to_image([[x0, y0, x1, y1]]))
    np.testing.assert_allclose(back, [[x0, y0, x1, y1]], atol=1e-9)


def test_normalize():
    batch = torch.tensor([[[[10, 20, 30]]]], dtype=torch.uint8)
    prep = Preprocess((1, 1), (10, 10, 10), (5, 10, 20))
    assert prep.normalize(batch).flatten().tolist() == [0, 1, 1]
    prep = Preprocess((1, 1), (10, 10, 10), (5, 10, 20), channels='bgr')
    assert prep.normalize(batch).flatten().tolist() == [4, 1, 0]


@pytest.mark.parametrize(
    ('values', 'message'),
    [
        (dict(input_size=(0, 5)), r'input size must be positive, got \(0, 5\)'),
        (dict(std=(1, 0, 1)), 'std above 0'),
        (dict(mean=(1, 2)), 'mean and std need three finite numbers each'),
        (dict(mean=(1, 2, float('nan'))), 'mean and std need three finite numbers each'),
        (dict(std=(1, 2, float('nan'))), 'mean and std need three finite numbers each'),
        (dict(channels='rgba'), "channels must be rgb or bgr, got 'rgba'"),
        (dict(interpolation='area'), "interpolation must be bilinear or bicubic, got 'area'"),
        (dict(crop_from=100), 'crop-from must be at least the input size 224, got 100'),
    ],
)
def test_wrong_values(values, message):
    with pytest.raises(ValueError, match=message):
        Preprocess(**values)


def test_a_broken_file_does_not_end_a_batch(tmp_path):
    good = image(tmp_path / 'a.png', 20, 12)
    (tmp_path / 'b.png').write_bytes(b'')
    listed = [AnnotatedImage(p, tmp_path / p, 0, ((0, 0, 1, 1),)) for p in ('a.png', 'b.png')]
    dataset = ImageDataset(listed, Preprocess((8, 8)))
    indices, batch, geometries, failures = collate([dataset[0], dataset[1]])
    assert (indices, batch.shape) == ([0], (1, 8, 8, 3))
    assert geometries == [Geometry.resized((12, 20), (8, 8))]
    assert failures[0][0] == 1
    assert 'cannot decode' in failures[0][1]
    assert good.is_file()
    assert collate([dataset[1]])[1].numel() == 0
