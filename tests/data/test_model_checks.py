"""What the start of a training keeps from learning is noted."""

import pytest
from mmengine.config import Config

from mmattn.data.model_checks import check_start

pytest.importorskip('mmdet')
PRETRAINED = dict(type='Pretrained', checkpoint='torchvision://resnet50')
SE = dict(type='mmattn.SE')


def notes(backbone=None, batch_size=8, **more):
    model = more.pop('model', dict(backbone=backbone or {}))
    loader = dict(batch_size=batch_size)
    return check_start(Config(dict(model=model, train_dataloader=loader, **more)))


def rule(gate):
    return [dict(gate=gate, position='after_conv3')]


def test_a_stage_frozen_without_weights():
    (note,) = notes(dict(type='ResNet', frozen_stages=1, init_cfg=None))
    assert 'model.backbone: frozen_stages=1 freezes its first stages at random values' in note
    assert 'set frozen_stages=-1' in note
    assert notes(dict(type='ResNet', frozen_stages=1)) == [note]
    kaiming = [dict(type='Kaiming', layer='Conv2d')]
    assert notes(dict(type='ResNet', frozen_stages=1, init_cfg=kaiming)) == [note]
    wrapped = dict(type='mmattn.Attend', wrapped=dict(type='ResNet', frozen_stages=1))
    assert notes(wrapped) == [note]
    assert notes(model=dict(type='mmattn.SSIA', model=dict(backbone=wrapped))) == [note]


@pytest.mark.parametrize(
    'backbone, more',
    [
        (dict(type='ResNet', frozen_stages=-1), {}),
        (dict(type='ResNet'), {}),
        (dict(type='ResNet', frozen_stages=1, init_cfg=PRETRAINED), {}),
        (dict(type='Attend', wrapped=dict(frozen_stages=1, init_cfg=PRETRAINED)), {}),
        (dict(type='ResNet', frozen_stages=1, pretrained='torchvision://resnet50'), {}),
        (dict(type='ResNet', frozen_stages=1), dict(load_from='x.pth')),
        (dict(type='ResNet', frozen_stages=1), dict(resume=True)),
    ],
)
def test_frozen_stages_with_weights_or_none_at_all(backbone, more):
    assert notes(backbone, **more) == []


def test_frozen_stages_in_a_pretrained_model():
    model = dict(init_cfg=PRETRAINED, backbone=dict(type='ResNet', frozen_stages=1))
    assert notes(model=model) == []


def test_attention_that_changes_pretrained_maps():
    backbone = dict(type='mmattn.AttentionResNet', init_cfg=PRETRAINED, attention=rule(SE))
    (note,) = notes(backbone)
    assert "model.backbone: mmattn.SE starts with init='paper' on pretrained weights" in note
    explicit = dict(backbone, attention=rule(dict(SE, init='paper')))
    assert notes(explicit) == [note]
    assert notes(dict(backbone, attention=rule(dict(SE, init='identity')))) == []
    assert notes(dict(backbone, init_cfg=None)) == []
    chain = dict(type='mmattn.Sequence', init='identity', gates=[SE, SE])
    assert notes(dict(backbone, attention=rule(chain))) == []
    assert notes(dict(backbone, attention=rule(dict(type='mmattn.SEE')))) == []  # the runner's
    neck = dict(type='mmattn.AWFPN', conv_cfg=dict(type='mmattn.AWConv2d', norm='GN'))
    assert notes(model=dict(backbone=dict(init_cfg=PRETRAINED), neck=neck)) == []


@pytest.mark.parametrize(
    'norm, batch_size, processes, noted',
    [
        (None, 2, 1, True),
        ('BN', 3, 8, True),
        ('BN', 4, 1, False),
        ('SyncBN', 2, 1, True),
        ('SyncBN', 2, 8, False),
        ('GN', 1, 1, False),
        ('none', 1, 1, False),
    ],
)
def test_batch_norm_of_few_images_in_an_attention_convolution(
    monkeypatch, norm, batch_size, processes, noted
):
    monkeypatch.setenv('WORLD_SIZE', str(processes))
    conv = dict(type='mmattn.AWConv2d', **({} if norm is None else dict(norm=norm)))
    model = dict(backbone={}, neck=dict(type='mmattn.AWFPN', conv_cfg=conv))
    found = notes(model=model, batch_size=batch_size)
    assert len(found) == noted
    if noted:
        assert f"norm='{norm or 'BN'}' in the branches of AWConv2d takes" in found[0]
        assert f'over {batch_size} images' in found[0]
