"""Backbones with attention where no slot of the host reaches.

Each needs mmdet or mmpretrain; the names of a host that is absent or broken say so when used.
"""

from mmattn.core.hosts import explain_missing, require_host

_problems = {}

try:
    require_host('mmdet')
except ImportError as error:
    _problems['mmdet'] = error
else:
    from mmattn.backbones.attend import Attend
    from mmattn.backbones.attention_resnet import AttentionResNet
    from mmattn.backbones.efficientnet_lite import EfficientNetLite
    from mmattn.backbones.mobilenet_v1 import MobileNetV1
    from mmattn.backbones.report_cnn import ReportCNN
    from mmattn.backbones.td_resnet import TDResNet
    from mmattn.backbones.wide_resnet import WideResNet

try:
    require_host('mmpretrain')
except ImportError as error:
    _problems['mmpretrain'] = error
else:
    from mmattn.backbones.learn_to_pay_vgg import LearnToPayVGG
    from mmattn.backbones.td_convnext import TDConvNeXt
    from mmattn.backbones.td_mobilenet_v3 import TDMobileNetV3

_HOSTS = {
    'Attend': 'mmdet',
    'AttentionResNet': 'mmdet',
    'EfficientNetLite': 'mmdet',
    'LearnToPayVGG': 'mmpretrain',
    'MobileNetV1': 'mmdet',
    'ReportCNN': 'mmdet',
    'TDConvNeXt': 'mmpretrain',
    'TDMobileNetV3': 'mmpretrain',
    'TDResNet': 'mmdet',
    'WideResNet': 'mmdet',
}

__all__ = [
    'Attend',
    'AttentionResNet',
    'EfficientNetLite',
    'LearnToPayVGG',
    'MobileNetV1',
    'ReportCNN',
    'TDConvNeXt',
    'TDMobileNetV3',
    'TDResNet',
    'WideResNet',
]


__getattr__ = explain_missing(__name__, _HOSTS, _problems)
