"""Stock configs of mmdet and mmpretrain of many families, made narrow, and images for them.

They are what :mod:`mmattn.insertion.compatibility` tries every method in.
"""

import copy
import re
from typing import NamedTuple

import numpy as np
import torch
from mmengine.config import Config
from mmengine.structures import InstanceData, PixelData

from mmattn.core.config import forget_pretrained
from mmattn.insertion.insert import read_config

__all__ = ['STOCK', 'Stock', 'batch_for', 'narrow']


class Stock(NamedTuple):
    """A stock config and how it is made narrow.

    Args:
        config: as :func:`mmattn.add_attention` takes it.
        divide: every width in the config is divided by this.
        sizes: ``(height, width)`` of the two images.
        model: what is further changed in the model.
        semantic: stride of the semantic segmentation that it trains on; 0 for none.
    """

    config: str
    divide: int = 4
    sizes: tuple = ((96, 128), (64, 96))
    model: dict = {}
    semantic: int = 0

    @property
    def name(self) -> str:
        """The config without its framework and ending."""
        return re.sub(r'^\w+::|\.py$', '', self.config)

    @property
    def framework(self) -> str:
        """``'mmdet'`` or ``'mmpretrain'``."""
        return self.config.partition('::')[0]


_SQUARE = ((64, 64), (64, 64))  # a classifier's images have one size
_YOLOX = dict(
    backbone=dict(widen_factor=0.25),
    neck=dict(in_channels=[64, 128, 256], out_channels=64),
    bbox_head=dict(in_channels=64, feat_channels=64),
)
_RTMDET = dict(
    backbone=dict(widen_factor=0.25),
    neck=dict(in_channels=[64, 128, 256], out_channels=32),
    bbox_head=dict(in_channels=32, feat_channels=32),
)
# its decoder encodes positions in 256 channels, whatever the width
_CONDITIONAL = dict(backbone=dict(base_channels=16), neck=dict(in_channels=[512]))
_REGNET = dict(backbone=dict(arch='regnetx_400mf'), neck=dict(in_channels=[32, 64, 160, 384]))

_SWIN = dict(
    arch=dict(_delete_=True, embed_dims=48, depths=[1, 1, 2, 1], num_heads=[3, 6, 12, 24]),
    img_size=224,
)
_VIT = dict(
    arch=dict(_delete_=True, embed_dims=192, num_layers=2, num_heads=3, feedforward_channels=384),
    img_size=64,
)


def _mmdet(name: str, *args, **kwargs) -> Stock:
    return Stock(f'mmdet::{name}.py', *args, **kwargs)


def _mmpretrain(name: str, *args, **kwargs) -> Stock:
    return Stock(f'mmpretrain::{name}.py', *args, **{'sizes': _SQUARE, **kwargs})


STOCK = (
    # two stages
    _mmdet('faster_rcnn/faster-rcnn_r50_fpn_1x_coco'),
    _mmdet('faster_rcnn/faster-rcnn_r50-caffe_c4-1x_coco', 1),
    _mmdet('faster_rcnn/faster-rcnn_x101-32x4d_fpn_1x_coco', model=dict(backbone=dict(depth=50))),
    _mmdet('mask_rcnn/mask-rcnn_r50_fpn_1x_coco'),
    _mmdet('cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco'),
    _mmdet('libra_rcnn/libra-faster-rcnn_r50_fpn_1x_coco'),
    _mmdet('dynamic_rcnn/dynamic-rcnn_r50_fpn_1x_coco'),
    _mmdet('double_heads/dh-faster-rcnn_r50_fpn_1x_coco'),
    _mmdet('groie/mask-rcnn_r50_fpn_groie_1x_coco'),
    _mmdet('point_rend/point-rend_r50-caffe_fpn_ms-1x_coco'),
    _mmdet('htc/htc_r50_fpn_1x_coco', semantic=8),
    _mmdet('panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco', semantic=1),
    _mmdet('tridentnet/tridentnet_r50-caffe_1x_coco', 1),
    _mmdet('detectors/cascade-rcnn_r50-sac_1x_coco'),
    _mmdet('detectors/cascade-rcnn_r50-rfp_1x_coco'),
    _mmdet('cascade_rpn/cascade-rpn_faster-rcnn_r50-caffe_fpn_1x_coco'),
    _mmdet('guided_anchoring/ga-faster-rcnn_r50_fpn_1x_coco'),
    _mmdet('crowddet/crowddet-rcnn_r50_fpn_8xb2-30e_crowdhuman'),
    _mmdet('sabl/sabl-faster-rcnn_r50_fpn_1x_coco'),
    _mmdet('pisa/faster-rcnn_r50_fpn_pisa_1x_coco'),
    # special convolutions, plugins, necks
    _mmdet('dcn/faster-rcnn_r50-dconv-c3-c5_fpn_1x_coco'),
    _mmdet('dcnv2/faster-rcnn_r50-mdconv-c3-c5_fpn_1x_coco'),
    _mmdet('gcnet/mask-rcnn_r50-gcb-r16-c3-c5_fpn_1x_coco'),
    _mmdet('empirical_attention/faster-rcnn_r50-attn1111_fpn_1x_coco'),
    _mmdet('gn+ws/faster-rcnn_r50_fpn_gn-ws-all_1x_coco', 2),
    _mmdet('pafpn/faster-rcnn_r50_pafpn_1x_coco'),
    _mmdet('carafe/faster-rcnn_r50_fpn-carafe_1x_coco'),
    _mmdet('fpg/faster-rcnn_r50_fpg-chn128_crop640-50e_coco', sizes=((128, 128), (96, 128))),
    _mmdet('nas_fpn/retinanet_r50_nasfpn_crop640-50e_coco', sizes=((128, 128), (96, 128))),
    _mmdet('dyhead/atss_r50_fpn_dyhead_1x_coco'),
    # other backbones
    _mmdet('resnet_strikes_back/retinanet_r50-rsb-pre_fpn_1x_coco'),
    _mmdet('hrnet/faster-rcnn_hrnetv2p-w32-1x_coco', 2),
    _mmdet('res2net/faster-rcnn_res2net-101_fpn_2x_coco', model=dict(backbone=dict(depth=50))),
    _mmdet('resnest/faster-rcnn_s50_fpn_syncbn-backbone+head_ms-range-1x_coco'),
    _mmdet('regnet/retinanet_regnetx-3.2GF_fpn_1x_coco', model=_REGNET),
    _mmdet('pvt/retinanet_pvt-t_fpn_1x_coco', model=dict(backbone=dict(embed_dims=16))),
    _mmdet('pvt/retinanet_pvtv2-b0_fpn_1x_coco', 2),
    _mmdet('swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco', 2),
    _mmdet('convnext/mask-rcnn_convnext-t-p4-w7_fpn_amp-ms-crop-3x_coco', 2),
    _mmdet(
        'efficientnet/retinanet_effb3_fpn_8xb4-crop896-1x_coco',
        model=dict(backbone=dict(arch='b0'), neck=dict(in_channels=[40, 112, 320])),
    ),
    # one stage
    _mmdet('retinanet/retinanet_r50_fpn_1x_coco'),
    _mmdet('retinanet/retinanet_r18_fpn_1x_coco'),
    _mmdet('fcos/fcos_r50-caffe_fpn_gn-head_1x_coco'),
    _mmdet('atss/atss_r50_fpn_1x_coco'),
    _mmdet('gfl/gfl_r50_fpn_1x_coco'),
    _mmdet('vfnet/vfnet_r50_fpn_1x_coco'),
    _mmdet('tood/tood_r50_fpn_1x_coco'),
    _mmdet('paa/paa_r50_fpn_1x_coco'),
    _mmdet('ddod/ddod_r50_fpn_1x_coco', sizes=((288, 320), (256, 288))),
    _mmdet('autoassign/autoassign_r50-caffe_fpn_1x_coco'),
    _mmdet('free_anchor/freeanchor_r50_fpn_1x_coco'),
    _mmdet('fsaf/fsaf_r50_fpn_1x_coco'),
    _mmdet('foveabox/fovea_r50_fpn_4xb4-1x_coco'),
    _mmdet('reppoints/reppoints-moment_r50_fpn_1x_coco'),
    _mmdet('nas_fcos/nas-fcos_r50-caffe_fpn_nashead-gn-head_4xb4-1x_coco', 2),
    _mmdet('centernet/centernet_r18_8xb16-crop512-140e_coco'),
    _mmdet('centernet/centernet-update_r50-caffe_fpn_ms-1x_coco'),
    _mmdet(
        'cornernet/cornernet_hourglass104_8xb6-210e-mstest_coco',
        sizes=((256, 256), (192, 256)),
        model=dict(backbone=dict(feat_channel=64)),
    ),
    _mmdet('yolo/yolov3_d53_8xb8-320-273e_coco', 1, ((64, 96), (64, 64))),
    _mmdet('yolo/yolov3_mobilenetv2_8xb24-320-300e_coco', 1),
    _mmdet('yolof/yolof_r50-c5_8xb8-1x_coco'),
    _mmdet('yolox/yolox_s_8xb8-300e_coco', 1, model=_YOLOX),
    _mmdet('yolox/yolox_nano_8xb8-300e_coco', 1, model=_YOLOX),
    _mmdet('rtmdet/rtmdet_s_8xb32-300e_coco', 1, model=_RTMDET),
    _mmdet('ssd/ssd300_coco', 1, ((300, 300), (280, 300))),
    _mmdet('ssd/ssdlite_mobilenetv2-scratch_8xb24-600e_coco', 1, ((320, 320), (300, 320))),
    # masks in one stage
    _mmdet('rtmdet/rtmdet-ins_s_8xb32-300e_coco', 1, ((96, 128), (96, 128)), model=_RTMDET),
    _mmdet('yolact/yolact_r50_1xb8-55e_coco', sizes=((128, 128), (128, 128))),
    _mmdet('solo/solo_r50_fpn_1x_coco'),
    _mmdet('solov2/solov2_r50_fpn_1x_coco'),
    _mmdet('condinst/condinst_r50_fpn_ms-poly-90k_coco_instance'),
    # transformers
    _mmdet('detr/detr_r50_8xb2-150e_coco'),
    _mmdet('conditional_detr/conditional-detr_r50_8xb2-50e_coco', 1, model=_CONDITIONAL),
    _mmdet('dab_detr/dab-detr_r50_8xb2-50e_coco'),
    _mmdet('deformable_detr/deformable-detr_r50_16xb2-50e_coco'),
    _mmdet('dino/dino-4scale_r50_8xb2-12e_coco', model=dict(num_queries=30)),
    _mmdet('sparse_rcnn/sparse-rcnn_r50_fpn_1x_coco'),
    _mmdet('queryinst/queryinst_r50_fpn_1x_coco'),
    _mmdet('mask2former/mask2former_r50_8xb2-lsj-50e_coco'),
    _mmdet('maskformer/maskformer_r50_ms-16xb1-75e_coco', semantic=1),
    # classifiers
    _mmpretrain('resnet/resnet50_8xb32_in1k'),
    _mmpretrain('resnet/resnet18_8xb16_cifar10'),
    _mmpretrain('resnext/resnext50-32x4d_8xb32_in1k'),
    _mmpretrain('seresnet/seresnet50_8xb32_in1k'),
    _mmpretrain('vgg/vgg11bn_8xb32_in1k', 1, sizes=((224, 224), (224, 224))),
    _mmpretrain('mobilenet_v2/mobilenet-v2_8xb32_in1k', 1),
    _mmpretrain('mobilenet_v3/mobilenet-v3-large_8xb128_in1k', 1),
    _mmpretrain('efficientnet/efficientnet-b0_8xb32_in1k', 1),
    _mmpretrain('convnext/convnext-tiny_32xb128_in1k', 2),
    _mmpretrain(
        'swin_transformer/swin-tiny_16xb64_in1k',
        2,
        sizes=((224, 224), (224, 224)),
        model=dict(backbone=_SWIN),
    ),
    _mmpretrain('densenet/densenet121_4xb256_in1k', 1),
    _mmpretrain('shufflenet_v2/shufflenet-v2-1x_16xb64_in1k', 1),
    _mmpretrain('regnet/regnetx-400mf_8xb128_in1k', 1),
    _mmpretrain('repvgg/repvgg-A0_8xb32_in1k', 1),
    _mmpretrain('vision_transformer/vit-base-p16_32xb128-mae_in1k', model=dict(backbone=_VIT)),
)

_WIDTHS = re.compile(
    r'(.*channels?|embed_dims|.*_dims?|num_feats|rfp_inplanes|num_deconv_filters'
    r'|point_feat_channels|hidden_dim)$'
)
# config keys that end like widths but are none
_OTHERS = {'query_dim', 'num_query_dim', 'with_channel'}
_FROM_64 = (
    *('ResNet', 'ResNetV1d', 'ResNeXt', 'Res2Net', 'ResNeSt', 'TridentResNet'),
    *('DetectoRS_ResNet', 'SEResNet', 'ResNet_CIFAR'),
)


def narrow(stock: Stock) -> Config:
    """Return the config with narrow layers, no weights to fetch and images of a small size."""
    cfg = copy.deepcopy(read_config(stock.config))
    _divide(cfg.model, stock.divide)
    if stock.divide > 1:
        for part in _dicts(cfg.model):
            _narrow_defaults(part, stock)
    cfg.merge_from_dict(dict(model=copy.deepcopy(stock.model)))  # it pops _delete_
    model = cfg.model
    forget_pretrained(model)
    cfg.load_from = None
    for part in (model.get('data_preprocessor'), cfg.get('data_preprocessor')):
        if part is not None:
            part.pop('batch_augments', None)  # they would draw another size
    _keep_few(model)
    size = stock.sizes[0]
    cfg.test_dataloader = dict(
        dataset=dict(pipeline=[dict(type='Resize', scale=size[::-1], keep_ratio=False)])
    )
    return cfg


def _narrow_defaults(part: dict, stock: Stock) -> None:
    """Return the width of a part that its config does not name, in place."""
    kind = str(part.get('type')).rpartition('.')[2]
    if kind.endswith('DETRHead') or kind == 'DINOHead':
        part.setdefault('embed_dims', 256 // stock.divide)
    if kind in _FROM_64:
        part['base_channels'] = 64 // stock.divide
        if stock.framework == 'mmpretrain' or kind == 'ResNeSt':
            part['stem_channels'] = 64 // stock.divide
    if kind == 'ConvNeXt':
        widths = [width // stock.divide for width in (96, 192, 384, 768)]
        part['arch'] = dict(depths=[1, 1, 2, 1], channels=widths)


def _divide(cfg: object, by: int) -> None:
    """Divide every width in a config, in place."""
    if isinstance(cfg, list | tuple):
        for item in cfg:
            _divide(item, by)
    if not isinstance(cfg, dict):
        return
    for key, value in cfg.items():
        if isinstance(key, str) and _WIDTHS.match(key) and key not in _OTHERS:
            cfg[key] = _divided(value, by)
        _divide(cfg[key], by)


def _divided(value: object, by: int):
    if isinstance(value, bool) or not isinstance(value, int | list | tuple):
        return value
    if isinstance(value, int):
        return value // by if value >= 32 else value
    return type(value)(_divided(item, by) for item in value)


def _keep_few(model: dict) -> None:
    """Predict even what is unlikely, but little of it; sample few points."""
    for key in ('train_cfg', 'test_cfg'):
        for settings in _dicts(model.get(key)):
            for name, value in (('score_thr', 0.0), ('max_per_img', 10), ('num_points', 64)):
                if name in settings and model.get('type') not in ('QueryInst', 'SparseRCNN'):
                    settings[name] = value


def _dicts(cfg: object):
    if isinstance(cfg, dict):
        yield cfg
        cfg = list(cfg.values())
    for item in cfg if isinstance(cfg, list | tuple) else ():
        yield from _dicts(item)


# ------------------------------------------------------------------------------------ images


def batch_for(cfg: Config, stock: Stock, seed: int = 0) -> dict:
    """Two drawn images with what their network trains on, as a data loader gives them."""
    generator = torch.Generator().manual_seed(seed)
    inputs = [
        torch.randint(0, 256, (3, *size), generator=generator, dtype=torch.uint8)
        for size in stock.sizes
    ]
    if stock.framework == 'mmpretrain':
        from mmpretrain.structures import DataSample

        return dict(inputs=inputs, data_samples=[DataSample().set_gt_label(i) for i in (0, 1)])
    return dict(
        inputs=inputs,
        data_samples=[_sample(size, i, stock, cfg) for i, size in enumerate(stock.sizes)],
    )


def _sample(size: tuple, index: int, stock: Stock, cfg: Config):
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks

    height, width = size
    sample = DetDataSample()
    sample.set_metainfo(
        dict(
            img_id=index,
            img_path=f'{index}.png',
            img_shape=size,
            ori_shape=size,
            scale_factor=(1.0, 1.0),
            flip=False,
            flip_direction=None,
            border=np.array([0, height, 0, width]),
        )
    )
    corners = [(0.05, 0.1, 0.6, 0.7), (0.4, 0.3, 0.95, 0.9), (0.1, 0.5, 0.45, 0.95)]
    boxes = torch.tensor(corners[: 3 - index]) * torch.tensor([width, height, width, height])
    masks = np.zeros((len(boxes), height, width), dtype=np.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes.int().tolist()):
        mask[top:bottom, left:right] = 1
    labels = torch.arange(len(boxes)) % _classes(cfg.model)
    sample.gt_instances = InstanceData(bboxes=boxes.float(), labels=labels)
    sample.ignored_instances = InstanceData(
        bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long)
    )
    if _has_masks(cfg.model):
        sample.gt_instances.masks = BitmapMasks(masks, height, width)
        sample.ignored_instances.masks = BitmapMasks(masks[:0], height, width)
    if stock.semantic:
        stuff = torch.full((1, height, width), 1, dtype=torch.uint8)
        stuff[:, height // 2 :] = 0
        stuff = stuff[:, :: stock.semantic, :: stock.semantic]
        sample.gt_sem_seg = PixelData(sem_seg=stuff)
    return sample


def _has_masks(model: dict) -> bool:
    """Whether a detector trains on masks."""
    head = str((model.get('bbox_head') or {}).get('type'))
    pads = (model.get('data_preprocessor') or {}).get('pad_mask')
    return bool(pads) or 'RTMDetIns' in head or 'mask_head' in (model.get('roi_head') or {})


def _classes(model: dict) -> int:
    found = [settings['num_classes'] for settings in _dicts(model) if 'num_classes' in settings]
    return min([number for number in found if isinstance(number, int)], default=80)
