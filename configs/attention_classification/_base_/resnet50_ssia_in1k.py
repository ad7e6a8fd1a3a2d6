"""ResNet-50 with places for attention on the SSIA paper's recipe for ImageNet-1k."""

_base_ = '../../ssia/resnet50_1xb64-100e_in1k.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(backbone=dict(type='mmattn.AttentionResNet', norm_eval=False))
