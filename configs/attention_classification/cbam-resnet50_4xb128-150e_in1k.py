"""CBAM-ResNet-50, a baseline of the TDAM paper."""

_base_ = './_base_/resnet50_tdam_in1k.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(
    backbone=dict(
        attention=[dict(gate=dict(type='mmattn.CBAM', bias=False), position='after_conv3')]
    )
)
