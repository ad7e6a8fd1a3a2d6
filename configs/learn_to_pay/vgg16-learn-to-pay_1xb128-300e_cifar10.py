"""VGG-16 with learned compatibility (pc) on CIFAR-10."""

_base_ = './_base_/cifar10_300e.py'
