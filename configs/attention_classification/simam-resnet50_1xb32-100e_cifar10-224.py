"""SimAM-ResNet-50 on CIFAR-10, table 3 of the SSIA paper."""

_base_ = './_base_/resnet50_ssia_cifar10.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(
    backbone=dict(
        attention=[dict(gate=dict(type='mmattn.SimAM', lam=0.1), position='after_conv3')]
    )
)
