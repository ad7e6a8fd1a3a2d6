"""The released R18. Its number of epochs is not known; those of R34 here."""

_base_ = './_base_/imagenet_100e.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(backbone=dict(preset='r18-joint-t2m2'), head=dict(in_channels=512))
