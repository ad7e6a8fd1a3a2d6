"""Ablation on 200 classes: joint, two steps, m = 1."""

_base_ = './_base_/imagenet200_150e.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)
