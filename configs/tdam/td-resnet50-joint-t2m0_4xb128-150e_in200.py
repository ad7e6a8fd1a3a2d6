"""Ablation on 200 classes: m = 0, the bottom is the top itself."""

_base_ = './_base_/imagenet200_150e.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(backbone=dict(distance=0))
