"""7 blocks of stage 3, the paper's printed cost. Recipe of R50; that of R101 is not known."""

_base_ = './_base_/imagenet_150e_r101.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(backbone=dict(preset='r101-joint-t2m1'))
