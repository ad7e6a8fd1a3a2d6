"""CIFAR-100 with the paper's recipe."""

_base_ = ['mmpretrain::_base_/models/resnet50.py', './_base_/cifar100_224_100e.py']

model = dict(head=dict(num_classes=100))
