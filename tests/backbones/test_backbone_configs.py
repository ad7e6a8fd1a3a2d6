"""What the configs of configs/ssd and configs/attention_resnet change, and nothing else."""

from pathlib import Path

import pytest
import torch
from mmdet.models.backbones.resnet import Bottleneck
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import InstanceData
from torch import nn

from mmattn.convs import AWConv2d
from mmattn.layers import CBAM, SE
from tests.backbones.networks import distance, image, pair, run

ROOT = Path(__file__).parents[2] / 'configs'
SSD = sorted(path.stem for path in (ROOT / 'ssd').glob('*.py'))
RESNET = sorted(path.stem for path in (ROOT / 'attention_resnet').glob('*.py'))
HOSTS = {
    'ssd300_voc0712': 'mmdet::pascal_voc/ssd300_voc0712.py',
    'ssd300_coco': 'mmdet::ssd/ssd300_coco.py',
    'resnet': 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
}
TRUNK = ['features_3', 'features_8', 'features_15', 'features_22', 'features_29', 'features_34']


def host_config(name):
    host = f'ssd300_{name.rpartition("_")[2]}' if name.startswith('ssd') else 'resnet'
    return Config.fromstring(f"_base_ = '{HOSTS[host]}'", '.py')


def config(name):
    folder = 'ssd' if name.startswith('ssd') else 'attention_resnet'
    return Config.fromfile(ROOT / folder / f'{name}.py')


def build(cfg):
    init_default_scope('mmdet')
    cfg.model.backbone.init_cfg = None
    return MODELS.build(cfg.model)


def of_type(module, kind):
    return [name for name, child in module.named_modules() if isinstance(child, kind)]


@pytest.mark.parametrize('name', [*SSD, *RESNET])
def test_only_the_network_differs_from_the_host(name):
    ours, host = config(name).to_dict(), host_config(name).to_dict()
    assert ours.pop('custom_imports') == dict(
        imports=['mmattn.registry'], allow_failed_imports=False
    )
    model, host_model = ours.pop('model'), host.pop('model')
    assert ours == host
    for part in ('backbone', 'neck', 'bbox_head'):
        if part in model:
            model.pop(part), host_model.pop(part)
    assert model == host_model


@pytest.mark.parametrize('data', ['voc0712', 'coco'])
@pytest.mark.parametrize(
    'kind, extra, predict, gate',
    [
        ('aw-extra', 8, 0, None),
        ('aw-pred', 0, 12, None),
        ('aw-extra-pred', 8, 12, None),
        ('se-vgg', 0, 0, SE),
        ('cbam-vgg', 0, 0, CBAM),
    ],
)
def test_ssd(kind, extra, predict, gate, data):
    name = f'ssd300_{kind}_{data}'
    model, host = build(config(name)), build(host_config(name))
    assert len(of_type(model.neck, AWConv2d)) == extra
    assert len(of_type(model.bbox_head, AWConv2d)) == predict
    assert of_type(model.backbone, AWConv2d) == []
    assert model.bbox_head.num_classes == (80 if data == 'coco' else 20)
    if gate:
        short = gate.__name__.lower()
        assert list(model.backbone.attend) == [f'{place}_{short}' for place in TRUNK]
        assert all(type(g) is gate and g.gamma is not None for g in model.backbone.attend.values())
        for place in TRUNK:
            assert isinstance(model.backbone.features[int(place[9:])], nn.ReLU)
    result = model.load_state_dict(host.state_dict(), strict=False)
    assert result.unexpected_keys == []
    assert all(
        'attend.' in key or '.branch.' in key or 'pw' in key or '.norm' in key
        for key in result.missing_keys
    )


@pytest.mark.parametrize('method', ['se', 'cbam', 'aw', 'aw-se', 'aw-cbam'])
def test_attention_resnet(method):
    model = build(config(f'faster-rcnn_r50-{method}_fpn_1x_coco'))
    blocks = [m for m in model.backbone.modules() if isinstance(m, Bottleneck)]
    assert len(blocks) == 16
    assert all(isinstance(block.conv2, AWConv2d) == method.startswith('aw') for block in blocks)
    gate = method.rpartition('-')[2]
    for block in blocks:
        assert block.with_plugins == (gate != 'aw')
        assert not block.with_plugins or block.after_conv3_plugin_names == [gate]
    backbone = model.backbone.train()
    assert not any(
        key.startswith('layer1') and not p.requires_grad
        for key, p in backbone.added_parameters().items()
    )


@pytest.mark.slow
@pytest.mark.parametrize('name', [*RESNET, 'ssd300_se-vgg_coco', 'ssd300_cbam-vgg_coco'])
def test_identity_start_on_the_stock_config(name):
    """The backbone gives what that of mmdet's own config gives, statistics as after training."""
    init_default_scope('mmdet')
    cfgs = [cfg.model.backbone for cfg in (config(name), host_config(name))]
    for cfg in cfgs:
        cfg.init_cfg = None
    ours, host = map(MODELS.build, cfgs)
    assert len(pair(host, ours)) > 0
    x = image(size=(300, 300) if name.startswith('ssd') else (128, 160))
    with torch.no_grad():
        for mode in (False, True):
            assert distance(run(ours, mode, x), run(host, mode, x)) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize('name', [name for name in SSD if name.endswith('voc0712')])
def test_ssd_computes_a_loss_and_predicts(name):
    model = build(config(name))
    model.init_weights()
    torch.manual_seed(0)
    sizes = dict.fromkeys(('img_shape', 'ori_shape', 'pad_shape'), (300, 300))
    sample = DetDataSample(
        metainfo=dict(sizes, scale_factor=(1.0, 1.0)),
        gt_instances=InstanceData(
            bboxes=torch.tensor([[30.0, 40.0, 200.0, 220.0]]), labels=torch.tensor([7])
        ),
    )
    images = torch.randn(2, 3, 300, 300) * 50
    losses = model.train().loss(images, [sample, sample.clone()])
    sum(sum(value) for value in losses.values()).backward()
    assert [key for key, p in model.named_parameters() if p.grad is None] == []
    model.eval()
    with torch.no_grad():
        found = model.predict(images[:1], [sample])[0].pred_instances
    assert found.bboxes.shape[1] == 4 and found.scores.isfinite().all()
