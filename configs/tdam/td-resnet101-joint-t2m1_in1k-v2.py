"""Tests R101, joint on ImageNet-V2."""

_base_ = './td-resnet101-joint-t2m1_4xb128-150e_in1k.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

test_dataloader = dict(
    dataset=dict(type='mmattn.ImageNetV2', data_root='data/imagenetv2', split='')
)
