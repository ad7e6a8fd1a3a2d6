"""Ablation on 200 classes: top alone, m = 2."""

_base_ = './_base_/imagenet200_150e.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(backbone=dict(attention='top', distance=2))
