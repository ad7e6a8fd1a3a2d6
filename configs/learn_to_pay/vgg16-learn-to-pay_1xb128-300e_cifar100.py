"""VGG-16 with learned compatibility (pc) on CIFAR-100."""

_base_ = './_base_/cifar100_300e.py'
