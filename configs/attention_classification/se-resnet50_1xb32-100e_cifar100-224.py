"""SE-ResNet-50 on CIFAR-100, table 3 of the SSIA paper."""

_base_ = './_base_/resnet50_ssia_cifar100.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(
    backbone=dict(
        attention=[dict(gate=dict(type='mmattn.SE', bias=False), position='after_conv3')]
    )
)
