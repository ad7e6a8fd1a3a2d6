"""AW-ResNet50 on CIFAR-100 with r_C1 = 32: neighbouring 32 input channels share a value."""

_base_ = './_base_/resnet50_cifar100.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(backbone=dict(conv2=dict(type='mmattn.AWConv2d', r_c1=32)))
