"""VGG-16 with mmpretrain's poolings on CIFAR-100: maps of 8, 4 and 2 pixels a side."""

_base_ = './_base_/cifar100_300e.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(backbone=dict(late_pooling=False))
