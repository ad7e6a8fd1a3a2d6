"""SSIA around the hosts' own models: mmdet's detectors, mmpretrain's classifiers."""

import copy
import inspect
import re

import numpy as np
import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.hub import get_config
from mmengine.model import BaseTTAModel
from mmengine.registry import MODELS, init_default_scope

from mmattn.auxiliary import SSIA, SSIABlock, SSIAHook, plain_config
from mmattn.auxiliary import taps as _taps
from mmattn.auxiliary.ssia import Pooled
from mmattn.data.model_checks import check_num_classes
from tests.test_configs import ROOT

from .models import OPTIONS, TOY

SSIA_CONFIGS = sorted((ROOT / 'configs/ssia').glob('*-ssia*.py'))
NETWORKS = [p for p in SSIA_CONFIGS if p.name.endswith('-ssia_1xb32-100e_mini-imagenet.py')]


def config(name):
    cfg = Config.fromfile(ROOT / 'configs' / name)
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    return cfg


def detection_batch(model, sizes, seed=0):
    """Images of the given sizes with a box each, through the model's own preprocessor."""
    structures = pytest.importorskip('mmdet.structures')
    from mmengine.structures import InstanceData

    torch.manual_seed(seed)
    samples = []
    for height, width in sizes:
        shape = dict(img_shape=(height, width), ori_shape=(height, width), scale_factor=(1, 1))
        sample = structures.DetDataSample(metainfo=dict(shape, pad_shape=(height, width)))
        boxes = torch.tensor([[4.0, 4.0, width - 4.0, height - 8.0]])
        sample.gt_instances = InstanceData(bboxes=boxes, labels=torch.tensor([1]))
        samples.append(sample)
    inputs = [torch.randint(256, (3, *size), dtype=torch.uint8) for size in sizes]
    return model.data_preprocessor(dict(inputs=inputs, data_samples=samples), True)


def small(cfg):
    """The detector of the digit scenes, narrow."""
    cfg.backbone.base_channels = 8
    cfg.neck.update(in_channels=[8, 16, 32, 64], out_channels=16)
    cfg.rpn_head.update(in_channels=16, feat_channels=16)
    cfg.roi_head.bbox_roi_extractor.out_channels = 16
    cfg.roi_head.bbox_head.update(in_channels=16, fc_out_channels=16)
    return cfg


@pytest.fixture
def detector():
    pytest.importorskip('mmdet')
    cfg = config('ssia/faster-rcnn_r18-ssia_fpn_350i_digits.py').model
    small(cfg)
    torch.manual_seed(0)
    model = MODELS.build(cfg)
    plain = MODELS.build(plain_config(cfg))
    plain.load_state_dict(model.state_dict(), strict=True)
    return model, plain


@pytest.mark.parametrize('sizes', [((64, 96), (50, 40)), ((33, 47),) * 2], ids=['odd', 'odder'])
def test_a_detector_with_images_of_any_size(detector, sizes):
    model, plain = detector
    data = detection_batch(model, sizes)
    torch.manual_seed(1)  # the samplers draw
    found = model(**copy.deepcopy(data), mode='loss')
    torch.manual_seed(1)
    own = plain(**copy.deepcopy(data), mode='loss')
    added = {name: value for name, value in found.items() if name.startswith('loss_ssia')}
    assert len(added) == 6
    assert found.keys() - added.keys() == own.keys()
    for name, value in own.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=0, msg=name)
    assert all(value > 0 for value in added.values())
    sum(added.values()).backward()
    assert model.backbone.conv1.weight.grad.abs().max() > 0
    assert model.backbone.layer4[1].conv2.weight.grad is None  # the last map is signal alone
    model.eval(), plain.eval()
    plain.load_state_dict(model.state_dict())
    first = model(**copy.deepcopy(data), mode='predict')
    second = plain(**copy.deepcopy(data), mode='predict')
    for one, other in zip(first, second):
        assert len(one.pred_instances) > 0
        for key in ('bboxes', 'scores', 'labels'):
            assert torch.equal(one.pred_instances[key], other.pred_instances[key])
    outs = [m(**copy.deepcopy(data), mode='tensor') for m in (model, plain)]
    for one, other in zip(outs[0][0], outs[1][0]):
        assert torch.equal(one, other)


def test_a_module_that_gives_no_map():
    cfg = config('ssia/faster-rcnn_r18-ssia_fpn_350i_digits.py').model
    small(cfg)
    cfg.taps = (0, 'backbone')
    with pytest.raises(
        ValueError, match=r"tap 'backbone' must give one \(N, C, H, W\) map, got t"
    ):
        MODELS.build(cfg)


def test_the_number_of_classes_is_checked_inside_the_wrapper():
    cfg = config('ssia/faster-rcnn_r18-ssia_fpn_350i_digits.py')

    class Data:
        metainfo = dict(classes=list('abcdefghijkl'))

    with pytest.raises(ValueError, match='train has 12 classes, the model num_classes=10'):
        check_num_classes(cfg, Data, 'train')


# widths and sides of the maps in use, low to high
MAPS = {
    'vgg16': [(128, 56), (256, 28), (512, 14), (512, 7)],
    'resnet18': [(64, 56), (128, 28), (256, 14), (512, 7)],
    'resnet50': [(256, 56), (512, 28), (1024, 14), (2048, 7)],
    'resnet101': [(256, 56), (512, 28), (1024, 14), (2048, 7)],
    'wide-resnet18-x1.5': [(96, 56), (192, 28), (384, 14), (768, 7)],
    'wide-resnet18': [(128, 56), (256, 28), (512, 14), (1024, 7)],
    'resnext50': [(256, 56), (512, 28), (1024, 14), (2048, 7)],
    'resnext101': [(256, 56), (512, 28), (1024, 14), (2048, 7)],
    'mobilenet-v2': [(24, 56), (32, 28), (96, 14), (320, 7)],
    'shufflenet-v2': [(24, 56), (116, 28), (232, 14), (464, 7)],
}


@pytest.mark.parametrize('path', NETWORKS, ids=lambda path: path.name.split('-ssia')[0])
def test_the_networks_of_table_5(path):
    pytest.importorskip('mmpretrain', reason='a classifier, and mmpretrain is not installed')
    cfg = config(path)
    maps = MAPS[path.name.split('-ssia')[0]]
    model = MODELS.build(dict(cfg.model, data_preprocessor=cfg.data_preprocessor))
    assert len(model.ssia.blocks) == 3
    for block, low, high in zip(model.ssia.blocks, maps, maps[1:]):
        assert block.low_size == (low[1], low[1])
        assert block.high_size == (high[1], high[1])
        channel = block.predictors['channel']
        assert (channel[0].in_features, channel[3].out_features) == (low[0], high[0])
    assert cfg.optim_wrapper.optimizer == dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=4e-5)
    assert cfg.train_cfg.max_epochs == 100
    assert cfg.train_dataloader.batch_size == 32


def test_the_recipes_of_the_tables():
    """Tables 1 and 2: what each config changes."""
    pytest.importorskip('mmpretrain', reason='the configs inherit those of mmpretrain')
    expected = {
        'spatial': dict(lambda_s=1.0, lambda_c=0.0),
        'channel': dict(lambda_s=0.0, lambda_c=3.0),
        'full': dict(lambda_s=1.0, lambda_c=3.0),
        'final': dict(scheme='final'),
        'identity': dict(scheme='identity'),
    }
    base = config('ssia/resnet50-ssia_1xb32-100e_mini-imagenet.py').model
    narrow = copy.deepcopy(base)
    narrow.backbone.update(base_channels=4, stem_channels=4)
    model = MODELS.build(narrow)
    weights = [block.weights for block in model.ssia.blocks]
    assert weights == [dict(spatial=0.5, channel=1.5)] * 3  # "both" of table 1
    assert model.ssia.weights == [0.2 * n for n in (1, 2, 3)]
    for name, change in expected.items():
        cfg = config(f'ssia/resnet50-ssia-{name}_1xb32-100e_mini-imagenet.py').model
        assert dict(cfg) == {**base, **change}


def test_the_readme_names_the_weights_of_its_configs():
    """Table 1: the weights in a row are those of the config that the row links."""
    pytest.importorskip('mmpretrain', reason='the configs inherit those of mmpretrain')
    text = (ROOT / 'configs/ssia/README.md').read_text()
    table = text[text.index('| ResNet-50, table 1') :].split('\n\n')[0].split('\n')[2:]
    assert len(table) == 5
    for line in table:
        _, link, weights, *_ = line.split('|')
        path = re.search(r'\((\S+\.py)\)', link)[1]
        model = config(f'ssia/{path}').model
        if not weights.strip():
            assert model.type == 'ImageClassifier'
            continue
        defaults = inspect.signature(SSIABlock).parameters
        found = [model.get(name, defaults[name].default) for name in ('lambda_s', 'lambda_c')]
        assert found == [float(weight) for weight in weights.split(', ')], path


@pytest.mark.parametrize('path', SSIA_CONFIGS, ids=lambda path: path.stem)
def test_every_config_keeps_its_predictors(path):
    if not path.name.startswith(('faster', 'retina', 'ssd')):
        pytest.importorskip('mmpretrain', reason='the config inherits one of mmpretrain')
    cfg = Config.fromfile(path)
    assert [hook.type for hook in cfg.custom_hooks if 'SSIA' in hook.type] == ['mmattn.SSIAHook']
    assert cfg.model.type == 'mmattn.SSIA'


# --- models in which SSIA is a part, or which run it in their own way ---------------------------


def semi(type='SoftTeacher', **options):  # noqa: A002
    """A semi-supervised detector with SSIA inside."""
    cfg = config('ssia/faster-rcnn_r18-ssia_fpn_350i_digits.py').model
    small(cfg)
    cfg.data_preprocessor = dict(type='DetDataPreprocessor')
    train = dict(
        freeze_teacher=True,
        sup_weight=2.0,
        unsup_weight=4.0,
        pseudo_label_initial_score_thr=0.0,
        rpn_pseudo_thr=0.0,
        cls_pseudo_thr=0.0,
        reg_pseudo_thr=0.02,
        jitter_times=1,
        jitter_scale=0.06,
        min_pseudo_bbox_wh=(1e-2, 1e-2),
    )
    return ConfigDict(
        type=type,
        detector=cfg,
        data_preprocessor=dict(
            type='MultiBranchDataPreprocessor', data_preprocessor=cfg.data_preprocessor
        ),
        semi_train_cfg=train,
        semi_test_cfg=dict(predict_on='teacher'),
        **options,
    )


@pytest.mark.parametrize('kind', ['SoftTeacher', 'SemiBaseDetector'])
def test_a_semi_supervised_detector_has_the_losses_of_its_student(kind):
    pytest.importorskip('mmdet')
    torch.manual_seed(0)
    model = MODELS.build(semi(kind))
    inputs, samples = {}, {}
    for number, branch in enumerate(('sup', 'unsup_teacher', 'unsup_student')):
        data = detection_batch(model.student, [(64, 64), (48, 64)], seed=number)
        for sample in data['data_samples']:
            sample.set_metainfo(dict(homography_matrix=np.eye(3, dtype=np.float32)))
        inputs[branch], samples[branch] = data['inputs'], data['data_samples']
    torch.manual_seed(1)
    alone = model.student.loss(inputs['sup'], copy.deepcopy(samples['sup']))
    model.student.ssia.iteration.zero_()
    torch.manual_seed(1)
    losses = model(inputs, samples, mode='loss')
    names = [name for name in losses if 'ssia' in name]
    supervised = [name for name in names if name.startswith('sup_')]
    assert len(supervised) == 6
    assert len(names) == (6 if kind == 'SoftTeacher' else 12)
    for name in supervised:
        torch.testing.assert_close(losses[name], 2 * alone[name.removeprefix('sup_')], msg=name)
    total, _ = model.parse_losses(losses)
    total.backward()
    assert all(p.grad is not None for p in model.student.ssia.parameters())
    assert all(p.grad is None for p in model.teacher.parameters())
    plain = MODELS.build(dict(semi(kind), detector=plain_config(semi(kind)['detector'])))
    plain.load_state_dict(model.state_dict(), strict=True)

    class Run:
        pass

    Run.model, saved = model, {}
    SSIAHook().before_save_checkpoint(Run, saved)
    torch.manual_seed(5)
    Run.model = MODELS.build(semi(kind))
    SSIAHook().after_load_checkpoint(Run, saved)
    for part in (Run.model.student, Run.model.teacher):
        torch.testing.assert_close(part.ssia.state_dict(), model.student.ssia.state_dict())


def test_around_a_semi_supervised_detector():
    pytest.importorskip('mmdet')
    inner = semi()
    inner['detector'] = plain_config(inner['detector'])
    words = r'it holds two detectors. Put SSIA around its detector instead: detector=dict\(type='
    with pytest.raises(ValueError, match=words):
        MODELS.build(dict(type='mmattn.SSIA', model=inner, taps=(1, 2)))


def test_the_branches_of_tridentnet():
    """In training its last stage gives the batch once for each of three branches."""
    pytest.importorskip('mmdet')
    cfg = get_config('mmdet::tridentnet/tridentnet_r50-caffe_1x_coco.py').model
    init_default_scope('mmdet')
    cfg.backbone.update(init_cfg=None, base_channels=4, stem_channels=4)
    cfg.backbone.norm_cfg.requires_grad = True
    cfg.rpn_head.update(in_channels=64, feat_channels=16)
    cfg.roi_head.shared_head = None
    cfg.roi_head.bbox_roi_extractor.update(out_channels=64)
    cfg.roi_head.bbox_roi_extractor.roi_layer.output_size = 2
    cfg.roi_head.bbox_head.update(in_channels=64, roi_feat_size=2)
    cfg.train_cfg.rpn_proposal.max_per_img = 20
    torch.manual_seed(0)
    model = MODELS.build(dict(type='mmattn.SSIA', model=cfg, taps=(1, 2), norm='LN'))
    for module in model.modules():  # mmdet leaves them to a checkpoint: whatever memory held
        if type(module).__name__ == 'TridentConv':
            torch.nn.init.normal_(module.weight, std=0.1)
    data = detection_batch(model, [(64, 96), (50, 64)])
    with _taps.watch(model, model.ssia.taps, _taps.image_sizes(**data)) as pooled:
        model.backbone(data['inputs'])
    low, high = pooled['backbone.layer2'], pooled['backbone.layer3']
    assert (len(low.channel), len(high.channel)) == (2, 6)
    assert (low.sizes, high.sizes) == ([(8, 12), (7, 8)], 3 * [(4, 6), (4, 4)])
    losses = model(**data, mode='loss')
    assert sum('ssia' in name for name in losses) == 2
    (block,) = model.ssia.blocks
    branches = [
        block.losses(low, Pooled(high.spatial[n : n + 2], high.channel[n : n + 2], low_sizes))
        for n, low_sizes in ((n, high.sizes[n : n + 2]) for n in (0, 2, 4))
    ]
    for name, value in block.losses(low, high).items():
        mean = torch.stack([branch[name] for branch in branches]).mean()
        torch.testing.assert_close(value, mean, msg=name)
    sum(value for name, value in losses.items() if 'ssia' in name).backward()
    assert model.backbone.layer2[0].downsample[0].weight.grad.abs().max() > 0


def test_the_hook_sees_through_test_time_augmentation():
    model = MODELS.build(dict(OPTIONS, model=TOY))

    class Augmented(BaseTTAModel):
        def merge_preds(self, data_samples_list):
            return data_samples_list

    class Run:
        pass

    Run.model = Augmented(module=model)
    other = MODELS.build(dict(OPTIONS, model=TOY))
    SSIAHook().after_load_checkpoint(Run, dict(ssia=other.ssia.state_dict()))
    torch.testing.assert_close(model.ssia.state_dict(), other.ssia.state_dict())


def test_init_detector():
    """mmdet looks for ``cfg.model.backbone``: a flat config has one."""
    apis = pytest.importorskip('mmdet.apis')
    cfg = config('ssia/faster-rcnn_r18-ssia_fpn_350i_digits.py')
    small(cfg.model)
    model = apis.init_detector(cfg, device='cpu', palette='random')
    assert isinstance(model, SSIA)
    (found,) = apis.inference_detector(model, [np.zeros((48, 64, 3), np.uint8)])
    assert found.pred_instances.scores.isfinite().all()
