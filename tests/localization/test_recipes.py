"""An mmpretrain config is prepared for as mmpretrain does it, whatever the config leaves out."""

import numpy as np
import pytest
import torch
from PIL import Image

from mmattn.localization import run
from mmattn.localization.classifiers import load_classifier
from mmattn.localization.images import Preprocess
from mmattn.localization.resizing import Step
from tests.localization.data import boxes_json
from tests.localization.test_tool import call

pytest.importorskip('mmpretrain', reason='mmpretrain is not installed')

CONFIG = """
model = dict(
    type='ImageClassifier',
    backbone=dict(type='ResNet_CIFAR', depth=18, stem_channels=8, base_channels=8,
                  out_indices=(3,)),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=4, in_channels=64){inner})
{outer}
test_dataloader = dict(batch_size=1, dataset=dict(type='CustomDataset', pipeline=[
    dict(type='LoadImageFromFile'), {steps} dict(type='PackInputs')]))
"""
MEAN, STD = 'mean=[120, 110, 100]', 'std=[50, 60, 70]'
FULL = f'data_preprocessor = dict({MEAN}, {STD}, to_rgb=True)'
CROP = "dict(type='CenterCrop', crop_size=33),"
EDGE = "dict(type='ResizeEdge', scale=40),"
CUBIC = (
    "dict(type='ResizeEdge', scale=40, edge='short', backend='pillow', interpolation='bicubic'),"
)
EFFICIENT = "dict(type='EfficientNetCenterCrop', crop_size=32{}),"
WHOLE = 'data_preprocessor = dict({}, to_rgb=True)'
CASES = {
    'whole': (FULL, '', EDGE + CROP),
    'no data_preprocessor': ('', '', EDGE + CROP),
    'no mean': ('data_preprocessor = dict(to_rgb=True)', '', EDGE + CROP),
    'no to_rgb': (f'data_preprocessor = dict({MEAN}, {STD})', '', EDGE + CROP),
    'one mean for all': (WHOLE.format('mean=[127.5], std=[127.5]'), '', EDGE + CROP),
    'of the model': ('', f', data_preprocessor=dict({MEAN}, {STD}, to_rgb=True)', EDGE + CROP),
    'of the model alone': (FULL, ', data_preprocessor=dict(num_classes=4)', EDGE + CROP),
    'padding without effect': (
        WHOLE.format(f'{MEAN}, {STD}, pad_size_divisor=3'),
        '',
        EDGE + CROP,
    ),
    'no resize, no crop': (FULL, '', ''),
    'no resize': (FULL, '', CROP),
    'no crop': (FULL, '', EDGE),
    'crop larger than the image': (FULL, '', "dict(type='CenterCrop', crop_size=60),"),
    'bicubic': (FULL, '', CUBIC + CROP),
    'area': (FULL, '', "dict(type='Resize', scale=(30, 26), interpolation='area'),"),
    'lanczos': (FULL, '', "dict(type='Resize', scale=40, interpolation='lanczos'),"),
    'pillow': (FULL, '', "dict(type='Resize', scale=(40, 36), backend='pillow'),"),
    'one scale': (FULL, '', "dict(type='Resize', scale=30),"),
    'two resizes': (FULL, '', "dict(type='Resize', scale=50), " + EDGE + CROP),
    'efficientnet': (FULL, '', EFFICIENT.format('')),
    'efficientnet, no margin': (FULL, '', EFFICIENT.format(", crop_padding=0, backend='pillow'")),
    'nothing at all': ('', '', ''),
}


def write(tmp_path, outer, inner, steps):
    file = tmp_path / 'config.py'
    file.write_text(CONFIG.format(outer=outer, inner=inner, steps=steps))
    return file


@pytest.fixture
def image(tmp_path):
    """47 x 60, of single pixels: any other resize shows."""
    pixels = np.random.default_rng(0).integers(0, 256, (60, 47, 3)).astype(np.uint8)
    pixels[..., 0] //= 3
    Image.fromarray(pixels).save(tmp_path / 'image.png')
    return tmp_path / 'image.png'


@pytest.mark.parametrize('case', CASES)
def test_scores_are_those_of_mmpretrain(tmp_path, image, case):
    from mmpretrain import ImageClassificationInferencer

    file = write(tmp_path, *CASES[case])
    torch.manual_seed(0)
    found = load_classifier(f'mmpretrain:{file}')
    for module in found.model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
    torch.nn.init.normal_(found.model.head.fc.weight, std=0.2)
    torch.save(dict(state_dict=found.model.state_dict(), meta={}), tmp_path / 'w.pth')
    inferencer = ImageClassificationInferencer(
        str(file), pretrained=str(tmp_path / 'w.pth'), device='cpu'
    )
    expected = inferencer(str(image))[0]['pred_scores']
    found.model.eval()
    pixels, geometry = found.preprocess.apply(Image.open(image))
    with torch.no_grad():
        x = found.preprocess.normalize(torch.from_numpy(np.array(pixels))[None])
        scores = found(x).softmax(1)[0].numpy()
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-6)
    assert 0.26 < expected.max() < 0.999  # scores that tell inputs apart
    assert geometry.input_size == x.shape[2:]
    centre = geometry.to_image([[0, 0, *geometry.input_size[::-1]]])[0]
    assert abs((centre[:2] + centre[2:]) / 2 - (23.5, 30)).max() <= 1


REFUSED = {
    'padding': (
        WHOLE.format('pad_size_divisor=32'),
        EDGE + CROP,
        'pads images to multiples of 32',
    ),
    'a blur': (FULL, "dict(type='GaussianBlur', radius=2),", 'GaussianBlur of the test pipeline'),
    'long edge': (FULL, "dict(type='ResizeEdge', scale=40, edge='long'),", "with edge='long'"),
    'kept ratio': (FULL, "dict(type='Resize', scale=40, keep_ratio=True),", 'keep_ratio of the'),
    'factor': (FULL, "dict(type='Resize', scale_factor=0.5),", 'Resize with scale_factor'),
    'padded crop': (FULL, "dict(type='CenterCrop', crop_size=40, auto_pad=True),", 'auto_pad'),
    'no such step': (FULL, "dict(type='Resise', scale=40),", 'Resise .* cannot be built'),
    'wrong filter': (
        FULL,
        "dict(type='Resize', scale=4, interpolation='x'),",
        "interpolation 'x'",
    ),
    'gray': (FULL, "dict(type='LoadImageFromFile', color_type='grayscale'),", "='grayscale'"),
}


@pytest.mark.parametrize('size', [(19, 12), (12, 19), (7, 7), (50, 3)])
def test_the_short_edge_as_mmpretrain_has_it(size):
    from mmpretrain.datasets import ResizeEdge

    array = np.zeros((*size, 3), np.uint8)
    expected = ResizeEdge(10).transform(dict(img=array))['img'].shape[:2]
    assert Step('short edge', (10, 10)).plan(size)[1] == expected


def test_of_a_tiny_image_a_pixel_stays():
    assert Step('crop and resize', (4, 4), margin=400).plan((2, 3))[0] == (1, 1, 2, 2)


@pytest.mark.parametrize('case', REFUSED)
def test_what_cannot_be_reproduced_is_refused(tmp_path, case):
    outer, steps, message = REFUSED[case]
    file = write(tmp_path, outer, '', steps)
    with pytest.raises(ValueError, match=f'^mmpretrain:.*config.py: .*{message}'):
        load_classifier(f'mmpretrain:{file}')
    found = load_classifier(f'mmpretrain:{file}', input_size=(20, 24)).preprocess
    assert (found.input_size, found.steps) == ((20, 24), ())


def test_another_data_preprocessor_is_refused(tmp_path):
    file = write(tmp_path, "data_preprocessor = dict(type='SelfSupDataPreprocessor')", '', EDGE)
    with pytest.raises(ValueError, match='config.py cannot be built: SelfSupDataPreprocessor'):
        load_classifier(f'mmpretrain:{file}')


def test_no_pipeline(tmp_path):
    file = write(tmp_path, FULL, '', '')
    file.write_text(file.read_text().partition('test_dataloader')[0])
    with pytest.raises(ValueError, match='has no test_dataloader with a pipeline: give --input'):
        load_classifier(f'mmpretrain:{file}')


def test_what_a_user_asks_for_wins(tmp_path):
    found = load_classifier(f'mmpretrain:{write(tmp_path, FULL, "", EDGE + CROP)}').preprocess
    assert found.input_size == (33, 33)
    assert found.changed(interpolation='bicubic').steps[0].interpolation == 'bicubic'
    assert found.changed(crop_from=0).steps == ()
    assert found.changed(crop_from=0).input_size == (33, 33)
    assert found.changed(crop_from=50).size_of((90, 100)) == (33, 33)
    assert found.changed(input_size=(20, 20)).shape().startswith('width and height resized to 20')
    bgr = Preprocess(channels='bgr').changed(mean=[1, 2, 3])
    assert bgr.mean == (3, 2, 1)


def test_images_of_their_own_size():
    native = Preprocess(input_size=None)
    assert native.settled([(20, 30), (20, 30)]).input_size == (20, 30)
    with pytest.raises(ValueError, match='2 sizes, such as 30 x 20 from .* give --input-size'):
        native.settled([(20, 30), (30, 20)])
    edge = Preprocess(input_size=None, steps=(Step('short edge', (10, 10)),))
    assert edge.settled([(20, 40), (10, 20)]).input_size == (10, 20)
    with pytest.raises(ValueError, match='crop-from needs an input size, got 40 alone'):
        native.changed(crop_from=40)


@pytest.mark.parametrize(
    'values, message',
    [
        (dict(kind='zoom'), "kind must be one of resize, .* got 'zoom'"),
        (dict(size=(0, 5)), r'size must be two positive integers, got \(0, 5\)'),
        (dict(backend='x'), "backend must be cv2 or pillow, got 'x'"),
        (dict(interpolation='area'), r"one of nearest, .* \(pillow\), got 'area'"),
    ],
)
def test_wrong_steps(values, message):
    with pytest.raises(ValueError, match=message):
        Step(**{'kind': 'resize', 'size': (4, 4), **values})


def test_a_run_on_images_as_they_are(tmp_path, capsys, monkeypatch):
    logged = []
    monkeypatch.setattr(run, 'print_log', lambda text, *_: logged.append(text))
    images, path = boxes_json(tmp_path, 3)
    model = f'mmpretrain:{write(tmp_path, "", "", "")}'
    options = ['--images', images, '--annotations', path, '--workers', 0, '--sweep-step', 0]
    assert call(model, *options, '--work-dir', tmp_path / 'a') == 2
    said = capsys.readouterr().err
    assert '(images stay as they are) makes inputs of 3 sizes, such as 40 x 30 from' in said
    assert 'give --input-size' in said
    assert call(model, *options, '--work-dir', tmp_path / 'b', '--input-size', 32) == 0
    expected = (
        'width and height resized to 32 x 32 (bilinear, pillow); '
        'B G R minus mean 0 0 0, divided by std 1 1 1'
    )
    assert f'input: {expected}' in logged
    assert f'Input: {expected}' in (tmp_path / 'b' / 'report.html').read_text()
