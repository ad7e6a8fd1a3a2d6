"""ResNet-50 for ImageNet-1k with mmpretrain's schedule: the survey gives none."""

_base_ = 'mmpretrain::resnet/resnet50_8xb32_in1k.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(backbone=dict(type='mmattn.AttentionResNet', norm_eval=False))
