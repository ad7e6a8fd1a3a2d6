"""Ablation on 200 classes: the plain network, one step."""

_base_ = './_base_/imagenet200_150e.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(backbone=dict(steps=1))
