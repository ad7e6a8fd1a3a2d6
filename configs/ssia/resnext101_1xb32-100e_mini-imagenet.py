_base_ = ['mmpretrain::_base_/models/resnext101_32x4d.py', './_base_/mini_imagenet_100e.py']

model = dict(head=dict(num_classes=100))
