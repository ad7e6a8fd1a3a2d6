"""10 alternating blocks of stage 3 (0, 2, ..., 18), as the text says; not the printed cost."""

_base_ = './_base_/imagenet_150e_r101.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(backbone=dict(preset='r101-joint-t2m1-10'))
