"""The sizes of an image, and what the boxes belong to."""

import struct

import numpy as np
import pytest
from PIL import Image

from mmattn.data.decode import decode_problem, find_broken_images, read_image
from mmattn.data.sizes import ImageSize, choose_frame, loaded_size, measure
from tests.data.sets import image


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'WEBP'])
def test_the_header_says_what_reading_gives(tmp_path, orientation, kind):
    path = image(tmp_path / f'x.{kind.lower()}', (40, 30), orientation, kind)
    size = measure(path)
    assert size == ImageSize((30, 40), orientation)
    for frame in ('stored', 'upright'):
        assert read_image(path, frame).size[::-1] == size.size(frame)


def test_a_size_in_words(tmp_path):
    assert str(measure(image(tmp_path / 'a.jpg'))) == '40 x 30'
    assert str(measure(image(tmp_path / 'b.jpg', orientation=3))) == '40 x 30'
    assert str(measure(image(tmp_path / 'c.jpg', orientation=6))) == (
        '40 x 30 as stored and 30 x 40 turned upright by its EXIF orientation 6'
    )


def test_what_is_no_image_has_no_size(tmp_path):
    (tmp_path / 'x.jpg').write_bytes(b'nothing')
    assert measure(tmp_path / 'x.jpg') is None
    assert measure(tmp_path / 'gone.jpg') is None


def test_an_orientation_that_exif_does_not_have_is_none(tmp_path):
    assert measure(image(tmp_path / 'x.jpg', orientation=99)).orientation == 1


@pytest.mark.parametrize(
    'orientation, annotated, default, frame',
    [
        (1, None, 'stored', 'stored'),
        (1, (30, 40), 'upright', 'upright'),
        (1, (40, 30), 'upright', None),
        (6, (40, 30), 'stored', 'upright'),
        (6, (30, 40), 'upright', 'stored'),
        (6, None, 'upright', 'upright'),
        (6, None, 'stored', 'stored'),
        (6, (31, 40), 'stored', None),
        (3, (30, 40), 'stored', 'stored'),
        (3, (30, 40), 'upright', 'upright'),
    ],
)
def test_the_annotated_size_decides_the_frame_else_the_layout(
    orientation, annotated, default, frame
):
    assert choose_frame(ImageSize((30, 40), orientation), annotated, default) == frame


@pytest.mark.parametrize(
    'step, loaded',
    [
        (None, (40, 30)),
        (dict(imdecode_backend='pillow'), (40, 30)),
        (dict(color_type='color_ignore_orientation'), (30, 40)),
        (dict(color_type='unchanged'), (30, 40)),
        (dict(color_type='unchanged', imdecode_backend='pillow'), (30, 40)),
    ],
    ids=['opencv', 'pillow', 'ignored', 'unchanged', 'unchanged pillow'],
)
def test_the_loaded_size_is_what_mmcv_loads(tmp_path, step, loaded):
    pytest.importorskip('mmcv')
    path = image(tmp_path / 'x.jpg', orientation=6)
    assert loaded_size(path, measure(path), step) == loaded
    straight = image(tmp_path / 'y.jpg')
    assert loaded_size(straight, measure(straight), step) == (30, 40)


def damaged_exif(path):
    """A WebP file whose EXIF data end inside their header."""
    exif = b'Exif\0\0' + b'II*\0' + b'\x08'
    Image.new('RGB', (40, 30)).save(path, 'WEBP', exif=exif)
    return path


def test_damaged_exif_marks_the_image_and_nothing_else(tmp_path):
    path = damaged_exif(tmp_path / 'x.webp')
    with pytest.raises(struct.error):
        Image.open(path).getexif()
    assert measure(path) == ImageSize((30, 40), None)
    with pytest.raises(ValueError, match=r'cannot decode .*x\.webp: '):
        read_image(path)
    assert read_image(path, 'stored').size == (40, 30)
    assert decode_problem(str(path)) == ''  # OpenCV reads it


@pytest.mark.parametrize(
    'error', [struct.error('x'), MemoryError(), KeyError('k'), RuntimeError()]
)
def test_whatever_a_decoder_raises_is_one_sentence(tmp_path, monkeypatch, error):
    path = image(tmp_path / 'x.jpg')

    def fail(*_):
        raise error

    monkeypatch.setattr(Image.Image, 'convert', fail)
    monkeypatch.setattr('PIL.ImageFile.ImageFile.load', fail)
    with pytest.raises(ValueError, match=r'cannot decode .*x\.jpg: .'):
        read_image(path)
    assert list(find_broken_images([str(path)])) == [str(path)]


def test_a_bomb_is_refused_by_its_header(tmp_path, monkeypatch):
    path = tmp_path / 'x.png'
    Image.new('1', (10_000, 10_000)).save(path)
    assert path.stat().st_size < 100_000

    def decoded(*_):
        raise AssertionError('decoded')

    monkeypatch.setattr('PIL.ImageFile.ImageFile.load', decoded)
    assert measure(path) == ImageSize((10_000, 10_000))
    with pytest.raises(ValueError, match=r'x\.png: it is 10000 x 10000, over the limit of 8947'):
        read_image(path)
    assert decode_problem(str(path)) == ''
    huge = tmp_path / 'y.png'
    huge.write_bytes(path.read_bytes().replace(b'\0\0\x27\x10' * 2, b'\0\1\x86\xa0' * 2))
    with pytest.raises(ValueError, match=r'cannot decode .*y\.png'):
        read_image(huge)


def test_sizes_are_compared(tmp_path):
    path = image(tmp_path / 'x.jpg')
    assert read_image(path, size=(30, 40)).size == (40, 30)
    with pytest.raises(ValueError, match=r'x\.jpg is 40 x 30, the annotations say 30 x 40'):
        read_image(path, size=(40, 30))


def test_the_loaded_size_of_a_damaged_header_is_opencvs(tmp_path):
    pytest.importorskip('mmcv')
    path = damaged_exif(tmp_path / 'x.webp')
    assert loaded_size(path, measure(path), None) == (30, 40)
    assert np.asarray(read_image(path, 'stored')).shape == (30, 40, 3)
