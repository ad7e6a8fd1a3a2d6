_base_ = './_base_/imagenet_150e.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(backbone=dict(preset='r50-top-t2m1'))
