"""The same VGG-16 without attention on CIFAR-10: a linear layer on its last map."""

_base_ = './_base_/cifar10_300e.py'

model = dict(
    neck=dict(type='GlobalAveragePooling'), head=dict(type='LinearClsHead', in_channels=512)
)
