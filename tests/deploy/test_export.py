"""Exported networks give PyTorch's outputs, at other sizes and batches than the recorded ones."""

import pytest
import torch
from torch import nn

from mmattn.convs import AWConv2d
from mmattn.deploy import KINDS, ExportedPart, difference, export, load_exported
from mmattn.layers import CBAM, SE
from mmattn.testing import randomise
from tests.commands import run_command

QUICK = ['onnx', 'torchscript']
SLOW = pytest.param('dynamo', marks=pytest.mark.slow)
SIZES = [(40, 48), (64, 33)]


class Backbone(nn.Module):
    """Two maps of attention, the second at half the size."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), SE(8, reduction=2, init='identity'))
        self.top = nn.Sequential(AWConv2d(8, 8, 3, 2, 1, reduction=2), CBAM(8, reduction=2))

    def forward(self, x):
        low = self.stem(x)
        return low, self.top(low)


class Detector(nn.Module):
    """What mmdet's detectors have: ``extract_feat`` for backbone and neck."""

    def __init__(self):
        super().__init__()
        self.backbone = Backbone()

    def extract_feat(self, images):
        low, high = self.backbone(images)
        return low + nn.functional.interpolate(high, low.shape[2:]), high


class Classifier(Detector):
    """What mmpretrain's classifiers have: ``head`` too, and all of it in ``forward``."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(8, 5)

    def forward(self, images):
        return self.head(self.extract_feat(images)[-1].mean((2, 3)))


def part_of(kind):
    torch.manual_seed(0)
    return ExportedPart(randomise(kind()).train())


@pytest.mark.parametrize('kind', [*QUICK, SLOW])
@pytest.mark.parametrize('model, names', [(Detector, 2), (Classifier, 1)])
def test_files_give_the_networks_outputs(tmp_path, model, names, kind):
    for package in () if kind == 'torchscript' else ('onnx', 'onnxruntime', 'onnxscript'):
        pytest.importorskip(package)
    part = part_of(model)
    assert len(part.names) == names
    (file,) = export(part, tmp_path / 'new', 'net', [kind], size=64).values()
    assert file.name == f'net{KINDS[kind][0]}'
    assert part.training  # left as it was
    assert difference(part, file, SIZES) < 1e-5
    images = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        wanted = part.eval()(images)
    torch.testing.assert_close(tuple(load_exported(file)(images)), wanted, rtol=1e-4, atol=1e-5)


def test_a_file_holds_no_weights_of_heads(tmp_path):
    model = Detector()
    model.roi_head = nn.Linear(8, 5)
    part = ExportedPart(model)
    (file,) = export(part, tmp_path, 'net', ['torchscript'], size=64).values()
    assert not [name for name in torch.jit.load(file).state_dict() if 'roi_head' in name]
    assert difference(part, file, SIZES) < 1e-5
    assert model.roi_head in model.children()  # the model itself keeps it


def test_a_network_that_needs_a_large_image():
    net = nn.Sequential(nn.Conv2d(3, 4, 16, 16), nn.Conv2d(4, 4, 7))
    assert ExportedPart(net, size=128).names == ['scores']
    with pytest.raises(RuntimeError, match='[Kk]ernel'):
        ExportedPart(net, size=64)


def test_a_difference_is_seen(tmp_path):
    part = part_of(Classifier)
    (file,) = export(part, tmp_path, 'net', ['torchscript'], size=64).values()
    with torch.no_grad():
        part.model.head.bias += 1
    assert difference(part, file, SIZES) > 0.05
    part.model.head = nn.Linear(8, 4)
    with pytest.raises(ValueError, match=r'gives the shapes \[\(1, 5\)\] .* network \[\(1, 4\)\]'):
        difference(part, file, SIZES)


def test_a_file_that_cannot_take_a_size(tmp_path):
    files = export(ExportedPart(nn.Conv2d(3, 4, 9)), tmp_path, 'net', ['torchscript'], size=64)
    part = ExportedPart(nn.Conv2d(3, 4, 1))
    with pytest.raises(ValueError, match=r'pt cannot take 1 images of 6 x 8; a graph recorded'):
        difference(part, files['torchscript'], [(6, 8)])


def test_names_say_what_an_output_is():
    assert part_of(Detector).names == ['level0', 'level1']
    assert part_of(Classifier).names == ['scores']
    assert part_of(Backbone).names == ['out0', 'out1']


def test_mistakes(tmp_path, monkeypatch):
    part = part_of(Classifier)
    with pytest.raises(ValueError, match="kind must be one of onnx, .*, got 'tensorrt'"):
        export(part, tmp_path, 'net', ['tensorrt'])
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    with pytest.raises(ImportError, match='export to onnx needs onnx, onnxruntime: pip install'):
        export(part, tmp_path, 'net', ['onnx'])

    def refuse(images):
        raise RuntimeError('not that one\nand more')

    monkeypatch.setattr(part, 'forward', refuse)
    with pytest.raises(RuntimeError, match='cannot export this network to torchscript: not that'):
        export(part, tmp_path, 'net', ['torchscript'])


@pytest.mark.slow
@pytest.mark.parametrize('kind', list(KINDS))
def test_the_tool_on_a_detector(tmp_path, capsys, kind):
    pytest.importorskip('mmdet')
    pytest.importorskip('onnxruntime')
    from mmattn.analysis.latency import build_model

    config = 'configs/demo/faster-rcnn_r18_aw-fpn_350i_digits.py'
    torch.save(dict(state_dict=build_model(config).state_dict()), tmp_path / 'net.pth')
    words = [config, tmp_path / 'net.pth', '--out-dir', tmp_path, '--kinds', kind, '--fuse']
    assert run_command('export.py', *words, '--shape', 64, 64, '--shape', 96, 128) == 0
    out = capsys.readouterr().out
    assert 'backbone and neck: images (N, 3, H, W) -> level0, level1, level2, level3' in out
    assert 'largest difference' in out
    assert run_command('export.py', *words, '--tolerance', '0') == 1
    assert 'a difference is above 0.0' in capsys.readouterr().err
