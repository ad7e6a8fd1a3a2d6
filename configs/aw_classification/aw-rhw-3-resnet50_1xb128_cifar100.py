"""AW-ResNet50 on CIFAR-100 with r_hw = 3."""

_base_ = './_base_/resnet50_cifar100.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(backbone=dict(conv2=dict(type='mmattn.AWConv2d', r_hw=3)))
