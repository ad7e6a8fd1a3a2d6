"""Ablation on 200 classes: operation channel."""

_base_ = './_base_/imagenet200_150e.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(backbone=dict(operation='channel'))
