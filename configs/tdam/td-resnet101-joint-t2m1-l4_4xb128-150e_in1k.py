"""Top-down blocks in stage 4 only (the paper's L4)."""

_base_ = './_base_/imagenet_150e_r101.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(backbone=dict(preset='r101-joint-t2m1-l4'))
