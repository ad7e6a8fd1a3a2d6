"""VGG-16 with dot products as compatibility (dp) on CIFAR-10."""

_base_ = './_base_/cifar10_300e.py'

model = dict(head=dict(compatibility='dot'))
