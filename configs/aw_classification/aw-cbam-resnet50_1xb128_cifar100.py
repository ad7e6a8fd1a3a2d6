"""AW-CBAM-ResNet50 on CIFAR-100, Table 2 of the AW paper."""

_base_ = './_base_/resnet50_cifar100.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(
    backbone=dict(
        conv2=dict(type='mmattn.AWConv2d'),
        attention=[dict(gate=dict(type='mmattn.CBAM'), position='after_conv3')],
    )
)
