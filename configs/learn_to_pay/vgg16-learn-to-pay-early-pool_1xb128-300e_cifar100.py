"""VGG-16 with mmpretrain's poolings on CIFAR-100: maps of 8, 4 and 2 pixels a side."""

_base_ = './_base_/cifar100_300e.py'

model = dict(backbone=dict(late_pooling=False))
