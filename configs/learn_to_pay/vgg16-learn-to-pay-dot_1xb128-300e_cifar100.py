"""VGG-16 with dot products as compatibility (dp) on CIFAR-100."""

_base_ = './_base_/cifar100_300e.py'

model = dict(head=dict(compatibility='dot'))
