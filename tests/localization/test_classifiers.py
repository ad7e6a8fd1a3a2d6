"""Loading classifiers from every kind of place, and one clear sentence for each mistake."""

import subprocess
import sys
from urllib.error import URLError

import pytest
import torch
from torch import nn

from mmattn.localization.classifiers import (
    Classifier,
    count_classes,
    load_classifier,
    load_weights,
)
from mmattn.localization.images import Preprocess
from mmattn.localization.resizing import Step
from tests.localization.nets import gap_net

NETS = 'python:tests.localization.nets:'


def test_python_function():
    found = load_classifier(NETS + 'tiny')
    assert found.name == NETS + 'tiny'
    assert found.preprocess == Preprocess((32, 32), (127,) * 3, (64,) * 3)
    assert count_classes(found) == 4
    assert found.model.training  # as it was


def test_python_file_and_argument(tmp_path):
    file = tmp_path / 'mine.py'
    file.write_text(
        'from torch import nn\n'
        'def make(path=None):\n'
        '    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))\n'
        '    return net, dict(input_size=[2, 2], classes=[path, "b", "c"])\n'
    )
    found = load_classifier(f'python:{file}:make', 'weights.pth')
    assert found.classes == ('weights.pth', 'b', 'c')
    assert found.preprocess.input_size == (2, 2)


def test_torchvision_with_weights_file(tmp_path):
    tv = pytest.importorskip('torchvision').models
    net = tv.resnet18(num_classes=7)
    state = {f'module.{k}': v for k, v in net.state_dict().items()}
    torch.save(dict(state_dict=state), tmp_path / 'w.pth')
    found = load_classifier('torchvision:resnet18', str(tmp_path / 'w.pth'), num_classes=7)
    assert count_classes(found) == 7
    torch.testing.assert_close(found.model.fc.weight, net.fc.weight)
    assert found.preprocess.mean == (123.675, 116.28, 103.53)
    with pytest.raises(ValueError, match=r'fc.bias \(7,\) -> \(1000,\)'):
        load_classifier('torchvision:resnet18', str(tmp_path / 'w.pth'))


def test_timm():
    pytest.importorskip('timm', reason='timm is not installed')
    found = load_classifier('timm:resnet18', num_classes=5)
    assert count_classes(found) == 5
    assert found.preprocess.input_size == (224, 224)
    assert found.preprocess.mean == pytest.approx((123.675, 116.28, 103.53))
    with pytest.raises(ValueError, match="timm has no model 'resnet_x'"):
        load_classifier('timm:resnet_x')


@pytest.mark.parametrize(
    ('error', 'said'),
    [
        (
            RuntimeError('package not installed. Run `pip install huggingface_hub`.\nMore'),
            'not ins',
        ),
        (OSError('no route to host'), 'no route to host'),
    ],
)
def test_timm_weights_that_cannot_be_had(monkeypatch, error, said):
    timm = pytest.importorskip('timm', reason='timm is not installed')

    def create_model(name, pretrained=False, **_):
        raise error

    monkeypatch.setattr(timm, 'create_model', create_model)
    with pytest.raises(ValueError, match=f'weights of timm:resnet18 cannot be loaded .*{said}'):
        load_classifier('timm:resnet18', 'pretrained')
    with pytest.raises(ValueError, match=f'timm:resnet18 cannot be built: .*{said}'):
        load_classifier('timm:resnet18')


def test_torchvision_weights_without_network(monkeypatch):
    pytest.importorskip('torchvision')

    def load(*_, **__):
        raise URLError('Name or service not known')

    monkeypatch.setattr(torch.hub, 'load_state_dict_from_url', load)
    monkeypatch.setattr('torchvision.models._api.load_state_dict_from_url', load)
    match = (
        r'weights IMAGENET1K_V1 of torchvision:resnet18 cannot be downloaded \(.*not known.*https'
    )
    with pytest.raises(ValueError, match=match):
        load_classifier('torchvision:resnet18', 'DEFAULT')


MMPRETRAIN = """
model = dict(
    type='ImageClassifier',
    backbone=dict(type='ResNet', depth=18, init_cfg=dict(
        type='Pretrained', checkpoint='torchvision://resnet18')),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=6, in_channels=512))
data_preprocessor = dict(
    num_classes=6, mean=[1.0, 2.0, 3.0], std=[4.0, 5.0, 6.0], to_rgb={rgb})
test_pipeline = [dict(type='LoadImageFromFile'), dict(type='ResizeEdge', scale=96),
    dict(type='CenterCrop', crop_size=64)]
"""


@pytest.mark.parametrize('rgb', [True, False])
def test_mmpretrain(tmp_path, rgb):
    pytest.importorskip('mmpretrain', reason='mmpretrain is not installed')
    config = tmp_path / 'c.py'
    config.write_text(MMPRETRAIN.replace('{rgb}', str(rgb)))
    found = load_classifier(f'mmpretrain:{config}')
    assert count_classes(found) == 6
    channels = 'rgb' if rgb else 'bgr'
    steps = Step('short edge', (96, 96), 'bilinear', 'cv2'), Step('centre crop', (64, 64))
    assert found.preprocess == Preprocess(
        (64, 64), (1.0, 2.0, 3.0), (4.0, 5.0, 6.0), channels, steps=steps
    )
    state = dict(state_dict=found.model.state_dict())
    state['meta'] = dict(dataset_meta=dict(classes=tuple('abcdef')))
    torch.save(state, tmp_path / 'w.pth')
    again = load_classifier(f'mmpretrain:{config}', str(tmp_path / 'w.pth'))
    assert again.classes == tuple('abcdef')
    x = torch.randn(2, 3, 64, 64)
    for item in (found, again):
        item.model.eval()
    torch.testing.assert_close(found(x), again(x))

    from mmattn.localization.cam import ScoreMaps

    with ScoreMaps(again.model, forward=again.forward) as maps:
        assert maps(x, torch.tensor([0, 1])).maps.shape == (2, 1, 2, 2)
        assert maps.analytic
        assert maps.names == ['backbone.layer4']
    with ScoreMaps(again.model, forward=again.forward, target='backbone') as maps:
        assert maps(x, torch.tensor([0, 1])).maps.shape == (2, 1, 2, 2)  # a tuple of maps


@pytest.mark.parametrize(
    ('spec', 'weights', 'message'),
    [
        ('resnet50', None, r"model must be one of mmpretrain:\.\.\., .* got 'resnet50'"),
        ('onnx:x', None, 'model must be one of'),
        ('torchvision:', None, 'model must be one of'),
        ('torchvision:resnet51', None, "no model 'resnet51'; nearest: .*resnet50"),
        ('torchvision:resnet18', 'nope.pth', 'must be IMAGENET1K_V1, DEFAULT or a checkpoint'),
        ('python:tests.localization.nets', None, 'write python:package.module:function'),
        (NETS + 'nope', None, "cannot be imported: .* no attribute 'nope'"),
        ('python:no.such.module:f', None, "cannot be imported: No module named 'no'"),
        ('python:no_such_file.py:f', None, 'cannot be imported'),
        (NETS + 'no_module', None, 'must return an nn.Module, got str'),
        (NETS + 'unknown_value', None, r"returned unknown values \['sise'\]; classes, input_size"),
        (NETS + 'tiny_nan', None, 'weights hold NaN or infinity, first in 3.weight'),
        (NETS + 'nn', None, 'nets:nn must be a function, got module'),
        (NETS + 'tiny', 'x.pth', "cannot be called with 'x.pth': too many positional arguments"),
    ],
)
def test_mistakes(spec, weights, message):
    with pytest.raises(ValueError, match=message):
        load_classifier(spec, weights)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('def make(:', r'make cannot be imported: .* \(mine.py, line 1\)'),
        ('def make(path): pass', "cannot be called with no argument: .* argument: 'path'"),
        (
            'import torch\ndef make(): return torch.nn.ReLU(), 5',
            'nn.Module, got ReLU, int; a dict',
        ),
        ('def make(): return 1, 2, 3', 'nn.Module, got int, int, int; a dict may follow'),
    ],
)
def test_mistakes_in_a_file_of_python(tmp_path, text, message):
    (tmp_path / 'mine.py').write_text(text)
    with pytest.raises(ValueError, match=message):
        load_classifier(f'python:{tmp_path / "mine.py"}:make')


def test_mmpretrain_mistakes():
    pytest.importorskip('mmpretrain', reason='mmpretrain is not installed')
    with pytest.raises(ValueError, match='mmpretrain:nope is no config file or model name'):
        load_classifier('mmpretrain:nope')


def test_checkpoints_that_do_not_fit(tmp_path):
    net = gap_net(4)
    with pytest.raises(ValueError, match='checkpoint .*nope.pth does not exist'):
        load_weights(net, tmp_path / 'nope.pth')
    (tmp_path / 'bad.pth').write_text('no checkpoint')
    with pytest.raises(ValueError, match='bad.pth is no checkpoint: neither torch nor pickle'):
        load_weights(net, tmp_path / 'bad.pth')
    torch.save([1, 2], tmp_path / 'list.pth')
    with pytest.raises(ValueError, match='list.pth must hold a dict, got list'):
        load_weights(net, tmp_path / 'list.pth')
    torch.save({'state_dict': [1, 2]}, tmp_path / 'inner.pth')
    with pytest.raises(
        ValueError, match='must hold a state dict of tensors, got a dict of: state'
    ):
        load_weights(net, tmp_path / 'inner.pth')
    (tmp_path / 'empty.pth').touch()
    with pytest.raises(ValueError, match='empty.pth cannot be read, its file is empty'):
        load_weights(net, tmp_path / 'empty.pth')
    torch.save(gap_net(9).state_dict(), tmp_path / 'nine.pth')
    with pytest.raises(
        ValueError, match=r'of another shape, not loaded: .*7.bias \(9,\) -> \(4,\)'
    ):
        load_weights(net, tmp_path / 'nine.pth')
    state = {k: v for k, v in net.state_dict().items() if not k.startswith('3.')}
    torch.save(state, tmp_path / 'part.pth')
    with pytest.raises(ValueError, match='missing in the checkpoint: 3.weight, 3.bias'):
        load_weights(net, tmp_path / 'part.pth')


def test_no_class():
    with pytest.raises(ValueError, match='num_classes must be at least 1, got 0'):
        load_classifier('torchvision:resnet18', num_classes=0)


def test_networks_that_are_no_classifier():
    class Detector(nn.Module):
        def forward(self, x, boxes=None):
            return [x for box in boxes]

    with pytest.raises(ValueError, match='does not take an input of 8 x 8: .*not iterable'):
        count_classes(Classifier(Detector(), Preprocess((8, 8))))
    maps = Classifier(nn.Conv2d(3, 4, 3), Preprocess((8, 8)))
    with pytest.raises(ValueError, match=r'scores of shape \(N, classes\), got \(1, 4, 6, 6\)'):
        count_classes(maps)
    wrong = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(5, 2)), Preprocess((8, 8)))
    with pytest.raises(ValueError, match='does not take an input of 8 x 8: '):
        count_classes(wrong)


def test_import_pulls_in_no_host():
    code = (
        'import sys, mmattn.localization, mmattn.localization.api\n'
        'hosts = {"mmdet", "mmcv", "mmpretrain", "timm", "matplotlib"} & set(sys.modules)\n'
        'assert not hosts, hosts'
    )
    subprocess.run([sys.executable, '-c', code], check=True)
