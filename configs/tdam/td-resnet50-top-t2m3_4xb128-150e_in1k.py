"""One block of stage 3 left out, which gives the paper's printed cost; all: r50-top-t2m3-all."""

_base_ = './_base_/imagenet_150e.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(backbone=dict(preset='r50-top-t2m3'))
