"""ResNet-50 with places for attention on the SSIA paper's recipe for CIFAR-100."""

_base_ = '../../ssia/resnet50_1xb32-100e_cifar100-224.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(backbone=dict(type='mmattn.AttentionResNet', norm_eval=False))
