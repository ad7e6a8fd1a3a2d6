"""Pyramid attention from three maps, in a classifier (our reading)."""

_base_ = './_base_/resnet50_in1k.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(
    backbone=dict(out_indices=(1, 2, 3)),
    neck=[
        dict(type='mmattn.PyramidAttention', in_channels=[512, 1024, 2048]),
        dict(type='GlobalAveragePooling'),
    ],
)
