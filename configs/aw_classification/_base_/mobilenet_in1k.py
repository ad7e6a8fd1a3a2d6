"""MobileNet for ImageNet-1k, on the recipe of the ResNets."""

_base_ = './resnet50_in1k.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(
    backbone=dict(_delete_=True, type='mmattn.MobileNetV1', out_indices=(4,)),
    head=dict(in_channels=1024),
)
