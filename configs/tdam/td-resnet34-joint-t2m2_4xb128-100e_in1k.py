_base_ = './_base_/imagenet_100e.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(backbone=dict(preset='r34-joint-t2m2'), head=dict(in_channels=512))
