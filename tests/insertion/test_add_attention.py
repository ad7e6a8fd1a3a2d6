"""Every method in its natural place; identity is the plain network; what cannot be is said."""

import copy
import pickle
from pathlib import Path

import pytest
import torch

pytest.importorskip('mmdet')
pytest.importorskip('mmpretrain')

from mmengine.config import Config

import mmattn
from mmattn.insertion.insert import insert
from mmattn.insertion.methods import METHODS
from mmattn.insertion.report import Report
from mmattn.insertion.stock import STOCK
from mmattn.insertion.stock import narrow as narrow_stock
from tests.insertion.networks import CLASSIFIERS, DETECTORS, build, narrow, outputs

ALL = (*DETECTORS, *CLASSIFIERS)
NAMES = [method.name for method in METHODS]
OPTIONS = {
    'Sequence': dict(gates=[dict(type='ECA'), dict(type='SpatialGate')]),
    'LinearAutoencoderAttention': dict(width=8),
    'AAConv2d': dict(dk=8, dv=8, num_heads=2),
}
TWINS = 'TDAM has twins of ResNet'
CANNOT = {  # a pair that cannot be -> a part of the sentence
    **{('TDConvNeXt', name): TWINS for name in ('faster_rcnn', 'retinanet', 'yolox', 'resnet')},
    **{('TDMobileNetV3', name): TWINS for name in ALL},
    **{('TDResNet', name): TWINS for name in ('yolox', 'convnext')},
    **{('LearnToPayHead', name): 'it is a head of classifiers' for name in DETECTORS},
    ('AWFPN', 'resnet'): 'it has no convolution; what can stand there: nothing',
    ('AWFPN', 'convnext'): 'this network has no neck, so AWFPN cannot stand there',
    ('AAConv2d', 'convnext'): 'what can stand there: gates',
}
# ConvNeXt pools before its last norm, and has a norm for each map that it gives
NOT_EXACT = {('LearnToPayHead', 'convnext')}
QUICK = {(name, ALL[i % len(ALL)]) for i, name in enumerate(NAMES)} | {
    *(('CBAM', name) for name in ALL),
    *(('TDResNet', 'faster_rcnn'), ('TDConvNeXt', 'convnext'), ('LearnToPayHead', 'resnet')),
    *(('AWFPN', 'retinanet'), ('AWConv2d', 'yolox'), ('SSIA', 'retinanet'), ('SSIA', 'resnet')),
}


def cases():
    for name in NAMES:
        for network in ALL:
            marks = () if (name, network) in QUICK else pytest.mark.slow
            yield pytest.param(name, network, marks=marks, id=f'{name}-{network}')


@pytest.mark.parametrize('method, network', cases())
def test_in_its_natural_place_and_plain_at_identity(method, network):
    cfg = narrow(network)
    before = copy.deepcopy(cfg)
    init = None if method == 'SSIA' else 'identity'
    if (method, network) in CANNOT:
        with pytest.raises(ValueError, match=CANNOT[method, network]):
            mmattn.add_attention(cfg, method, init=init, **OPTIONS.get(method, {}))
        return
    new = mmattn.add_attention(cfg, method, init=init, **OPTIONS.get(method, {}))
    assert cfg.to_dict() == before.to_dict()
    plain, attended = build(cfg), build(new, seed=1)
    missing, unexpected = attended.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected
    assert bool(missing) == (method != 'SSIA')
    if (method, network) in NOT_EXACT:
        return
    for ours, theirs in zip(outputs(attended, network), outputs(plain, network), strict=True):
        torch.testing.assert_close(ours, theirs)
    added = sum(p.numel() for p in attended.parameters()) - sum(
        p.numel() for p in plain.parameters()
    )
    if method != 'SSIA':  # whose parameters are of the training only
        assert new.mmattn.params == added


def test_every_gate_and_convolution_has_a_row():
    from mmattn.layers._gate import Gate
    from mmattn.registry import MODELS

    mmattn.register_all_modules()
    kinds = MODELS.module_dict.items()
    assert {name for name, kind in kinds if issubclass(kind, (Gate, torch.nn.Conv2d))} <= {*NAMES}


@pytest.mark.slow
@pytest.mark.parametrize('order', [('CBAM', 'AWConv2d', 'TDAM'), ('TDAM', 'AWConv2d', 'CBAM')])
def test_five_methods_in_one_network_in_any_order(order):
    cfg = narrow('faster_rcnn')
    new = mmattn.add_attention(cfg, [*order, 'AWFPN', 'SSIA'], init='identity')
    plain, attended = build(cfg), build(new, seed=1)
    attended.load_state_dict(plain.state_dict(), strict=False)
    for ours, theirs in zip(outputs(attended, 'faster_rcnn'), outputs(plain, 'faster_rcnn')):
        torch.testing.assert_close(ours, theirs)
    kinds = {place.method for place in new.mmattn.places}
    assert kinds == {'CBAM', 'AWConv2d', 'TDBottleneck'}
    assert len([p for p in new.mmattn.places if p.method == 'CBAM']) == 16


def test_only_the_levels_that_the_neck_reads_are_gated():
    cfg = narrow('retinanet')
    assert cfg.model.neck.start_level == 1
    new = mmattn.add_attention(cfg, 'SE', position='outputs')
    assert new.model.backbone.attention == [dict(gate=dict(type='mmattn.SE'), levels=(1, 2, 3))]


def test_chains_of_necks():
    cfg = narrow('retinanet')
    bfp = dict(type='BFP', in_channels=32, num_levels=5, refine_level=1, refine_type='non_local')
    cfg.model.neck = [cfg.model.neck, bfp]
    new = mmattn.add_attention(cfg, 'AWFPN')
    assert [neck.type for neck in new.model.neck] == ['mmattn.AWFPN', 'mmattn.Attend']
    new = mmattn.add_attention(cfg, 'SE', where='neck', position='outputs')
    assert [neck.type for neck in new.model.neck] == ['FPN', 'mmattn.Attend']
    assert new.mmattn.places[-1].name == 'neck.1.attend.level4_se'


def test_a_place_of_ones_own():
    cfg = narrow('faster_rcnn')
    new = mmattn.add_attention(cfg, 'SE', stages=[2, -1], position='after_add', reduction=4)
    (rule,) = new.model.backbone.attention
    assert rule == dict(
        gate=dict(type='mmattn.SE', reduction=4), position='after_add', stages=(2, 3)
    )
    new = mmattn.add_attention(cfg, 'SE', position=r'layer2\.0\.conv1')
    assert [p.name for p in new.mmattn.places] == ['backbone.attend.layer2_0_conv1_se']
    new = mmattn.add_attention(cfg, 'AWConv2d', where='rpn_head')
    assert [p.name for p in new.mmattn.places] == ['rpn_head.rpn_conv']


def test_what_a_config_has_is_kept():
    cfg = narrow('faster_rcnn')
    plugin = dict(cfg=dict(type='ContextBlock', ratio=0.25), position='after_conv3')
    cfg.model.backbone.plugins = [plugin]
    cfg.model.backbone.dcn = dict(type='DCNv2', deform_groups=1, fallback_on_stride=False)
    cfg.model.backbone.stage_with_dcn = (False, True, True, True)
    new = mmattn.add_attention(cfg, ['SE', 'AWConv2d'])
    assert new.model.backbone.plugins == [plugin]
    assert new.model.backbone.conv2_stages == (0,)  # the others are deformable
    assert new.model.backbone.dcn == cfg.model.backbone.dcn


@pytest.mark.parametrize(
    'weights, init, reason',
    [
        ({}, 'paper', 'from scratch'),
        (dict(load_from='plain.pth'), 'identity', "load_from='plain.pth'"),
        (
            dict(init_cfg=dict(type='Pretrained', checkpoint='torchvision://r')),
            'identity',
            'torchvision://r',
        ),
    ],
    ids=['scratch', 'load_from', 'pretrained'],
)
def test_the_config_decides_how_a_method_starts(weights, init, reason):
    cfg = narrow('faster_rcnn')
    for key, value in weights.items():
        (cfg if key == 'load_from' else cfg.model.backbone)[key] = value
    new = mmattn.add_attention(cfg, 'SE')
    assert new.model.backbone.attention[0]['gate'].get('init', 'paper') == init
    assert new.mmattn.init == init and reason in new.mmattn.reason
    assert mmattn.add_attention(cfg, 'SE', init='paper').mmattn.init == 'paper'


def test_new_parameters_are_not_frozen():
    cfg = narrow('faster_rcnn')
    assert cfg.model.backbone.frozen_stages == 1
    model = build(mmattn.add_attention(cfg, ['SE', 'AWConv2d']))
    model.train()
    stage = dict(model.backbone.layer1.named_parameters())
    assert not stage['0.conv1.weight'].requires_grad
    new = [p for name, p in stage.items() if '.se.' in name or '.branch.' in name]
    assert new and all(p.requires_grad for p in new)


@pytest.mark.parametrize(
    'first, second, sentence',
    [
        ('SE', 'SE', r'SE cannot be added to the backbone: it stands there already \(after_conv3'),
        ('AWConv2d', 'AWConv2d', 'are mmattn.AWConv2d already; gates can still stand there'),
        ('AWFPN', 'AWFPN', 'its convolutions are mmattn.AWConv2d; gates can stand there'),
        ('TDAM', 'TDAM', 'the backbone is a TDResNet already'),
        ('SSIA', 'SSIA', 'it stands around this model already'),
    ],
)
def test_twice_is_refused(first, second, sentence):
    new = mmattn.add_attention(narrow('faster_rcnn'), first)
    with pytest.raises(ValueError, match=sentence):
        mmattn.add_attention(new, second)


@pytest.mark.parametrize(
    'arguments, error, sentence',
    [
        (dict(method='CBMA'), ValueError, "method 'CBMA' is not known; did you mean 'CBAM'"),
        (dict(method='Attend'), ValueError, "method 'Attend' is no method to add; the methods"),
        (dict(method=3), TypeError, 'method must be a name, a dict or a list of these, got 3'),
        (dict(method=[]), TypeError, r'got \[\]'),
        (dict(method='SE', init='zero'), ValueError, "init must be one of .* got 'zero'"),
        (dict(method='SE', where='tail'), ValueError, "where must be one of .* got 'tail'"),
        (dict(method='SE', where='model'), ValueError, 'can stand in the model: SSIA'),
        (dict(method='SSIA', where='neck'), ValueError, 'SSIA goes into the model'),
        (dict(method='SE', stages=[7]), ValueError, r'from 0 to 3 or 4 booleans, got \[7\]'),
        (dict(method=['SE', 'ECA'], reduction=4), ValueError, 'options belong to one method'),
        (dict(method='SE', reduction=0), ValueError, 'cannot be built: reduction must be >= 1'),
        (dict(method='SE', where='roi_head.bbox_head'), ValueError, 'it has no tower of conv'),
        (dict(method='AWConv2d', position='after_add'), ValueError, 'a regular expression'),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else '',
)
def test_sentences(arguments, error, sentence):
    with pytest.raises(error, match=sentence):
        mmattn.add_attention(narrow('faster_rcnn'), **arguments)


@pytest.mark.parametrize(
    'cfg, error, sentence',
    [
        ('nowhere.py', FileNotFoundError, 'nowhere.py does not exist'),
        (
            'mmdet::retinanet/retinanet_r50_fpn_1x_cocoo.py',
            FileNotFoundError,
            "did you mean 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'",
        ),
        (3, TypeError, 'cfg must be a Config, a file or a name, got int'),
        (Config(dict(a=1)), ValueError, 'the config has no model'),
        (Config(dict(model=dict(type='X'))), ValueError, "model 'X' has no backbone"),
    ],
    ids=['file', 'name', 'type', 'no model', 'no backbone'],
)
def test_configs_that_are_none(cfg, error, sentence):
    with pytest.raises(error, match=sentence):
        mmattn.add_attention(cfg, 'SE')


LAZY = """
from mmdet.models.backbones import ResNet
from mmdet.models.detectors import RetinaNet
from mmdet.models.necks import FPN

default_scope = 'mmdet'
model = dict(
    type=RetinaNet,
    backbone=dict(type=ResNet, depth=18, base_channels=16, stem_channels=16),
    neck=dict(type=FPN, in_channels=[16, 32, 64, 128], out_channels=32, num_outs=4),
)
"""


def test_a_config_in_the_lazy_style(tmp_path):
    (tmp_path / 'lazy.py').write_text(LAZY)
    new = mmattn.add_attention(tmp_path / 'lazy.py', ['CBAM', 'AWFPN', 'SSIA'])
    new.dump(tmp_path / 'dumped.py')
    again = Config.fromfile(tmp_path / 'dumped.py').model
    assert again.type == 'mmattn.SSIA' and again.taps == (0, 1, 2, 3)
    assert again.model.type == 'mmdet.models.detectors.RetinaNet'
    assert again.model.backbone.type == 'mmattn.AttentionResNet'
    assert again.model.neck.type == 'mmattn.AWFPN'


def test_the_report_is_a_table_and_survives(tmp_path):
    new = mmattn.add_attention(narrow('faster_rcnn'), dict(type='mmattn.SE'), init='identity')
    text = str(new.mmattn)
    assert text.startswith('mmattn.SE: init=identity, as asked\nmethod  place ')
    assert 'SE      backbone.layer3.{0-5}.se  256 x 50 x 84' in text
    assert text.splitlines()[-1].startswith(f'total: +{new.mmattn.params:,} parameters, +0.')
    for again in (copy.deepcopy(new), pickle.loads(pickle.dumps(new))):
        assert isinstance(again.mmattn, Report) and str(again.mmattn) == text
    new.dump(tmp_path / 'dumped.py')
    dumped = Config.fromfile(tmp_path / 'dumped.py')
    assert str(mmattn.report(dumped)) == text
    del dumped._cfg_dict['mmattn']
    assert mmattn.report(dumped).places == new.mmattn.places


CONFIGS = Path(__file__).parents[2] / 'configs'
ROWS = sorted((CONFIGS / 'attention_resnet').glob('*.py'))
ROWS = [path for path in ROWS if 'pyramid-c2-c5' not in path.stem]  # its place is the neck
# the ECA of this row stands where its autoencoder belongs
PLACED = {'faster-rcnn_r50-eca-autoencoder_fpn_1x_coco': dict(position='before_norm2')}


@pytest.mark.parametrize('path', ROWS, ids=lambda path: path.stem)
def test_the_call_and_the_configs_agree_on_the_places(path):
    written = Config.fromfile(path).model.backbone
    wanted = [rule.gate for rule in written.get('attention', ())]
    wanted += [written.conv2] if 'conv2' in written else []
    cfg = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'
    for method in wanted:
        cfg = insert(cfg, dict(method), init='identity', **PLACED.get(path.stem, {}))[0]
    for key in ('attention', 'conv2', 'conv2_stages'):
        assert cfg.model.backbone.get(key) == written.get(key)


@pytest.mark.parametrize('name', ['faster_rcnn', 'retinanet'])
def test_ssia_has_the_weights_of_the_stages_that_train(name):
    new = insert(f'mmdet::{name}/{name.replace("_", "-")}_r50_fpn_1x_coco.py', 'SSIA')[0].model
    stem = f'{name.replace("_", "-")}_r50-ssia_fpn_1x_coco'
    written = Config.fromfile(CONFIGS / 'ssia' / f'{stem}.py')
    for key in ('taps', 'lambdas', 'norm'):
        assert new[key] == written.model[key]


def test_ssia_from_the_first_stage_has_its_default_weights():
    assert 'lambdas' not in insert('mmpretrain::resnet/resnet50_8xb32_in1k.py', 'SSIA')[0].model
    three = insert('mmdet::faster_rcnn/faster-rcnn_r50-caffe_c4-1x_coco.py', 'SSIA')[0].model
    assert (three.taps, three.lambdas) == ((1, 2), (2,))
    own = insert('mmdet::retinanet/retinanet_r50_fpn_1x_coco.py', 'SSIA', lambdas=(1, 1))[0].model
    assert own.lambdas == (1, 1)


def test_a_swin_has_numbered_stages():
    new = insert('mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py', 'SSIA')[0].model
    assert new.taps == (0, 1, 2, 3)


@pytest.mark.parametrize(
    'config, indices',
    [
        ('repvgg/repvgg-A0_8xb32_in1k', (1, 2, 3)),
        ('mobilenet_v2/mobilenet-v2_8xb32_in1k', (2, 4, 7)),
    ],
    ids=['stages', 'layers'],
)
def test_learn_to_pay_takes_the_last_map_of_each_size(config, indices):
    new = insert(f'mmpretrain::{config}.py', 'LearnToPayHead')[0].model
    assert new.backbone.out_indices == indices


def test_the_report_says_where_identity_is_not_the_plain_network():
    head = mmattn.add_attention(narrow('convnext'), 'LearnToPayHead', init='identity')
    assert 'does not start as the plain network' in str(head.mmattn).splitlines()[-1]
    head = mmattn.add_attention(narrow('resnet'), 'LearnToPayHead', init='identity')
    assert head.mmattn.notes == []


CLASSIFIER = 'mmpretrain::vision_transformer/vit-base-p16_32xb128-mae_in1k.py'
RESNEXT = 'mmdet::faster_rcnn/faster-rcnn_x101-32x4d_fpn_1x_coco.py'


@pytest.mark.parametrize(
    'cfg, method, sentence',
    [
        (CLASSIFIER, 'SE', 'what can stand there: nothing, as it has no'),
        (CLASSIFIER, 'SSIA', 'VisionTransformer shows no stages'),
        (RESNEXT, 'AAConv2d', 'have groups=32, which self-attention has not'),
        ('mmdet::gn+ws/faster-rcnn_r50_fpn_gn-ws-all_1x_coco.py', 'AAConv2d', 'are ConvWS; AWC'),
        ('mmdet::detectors/cascade-rcnn_r50-rfp_1x_coco.py', 'AAConv2d', 'gates and AWConv2d'),
    ],
)
def test_where_a_method_cannot_stand(cfg, method, sentence):
    with pytest.raises(ValueError, match=sentence):
        insert(cfg, method)


def test_offsets_of_a_switchable_convolution_are_left_alone():
    (sac,) = (stock for stock in STOCK if 'r50-sac' in stock.config)
    cfg = insert(narrow_stock(sac), 'AWConv2d')[0]
    assert [rule['replace'] for rule in cfg.model.backbone.attention] == [r'layer1\.\d+\.conv2']
