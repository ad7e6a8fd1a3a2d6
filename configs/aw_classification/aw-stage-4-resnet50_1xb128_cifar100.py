"""AW-ResNet50 on CIFAR-100: AW in stage 4 only."""

_base_ = './_base_/resnet50_cifar100.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(backbone=dict(conv2=dict(type='mmattn.AWConv2d'), conv2_stages=(3,)))
