_base_ = ['mmpretrain::_base_/models/vgg16bn.py', './_base_/mini_imagenet_100e.py']

model = dict(backbone=dict(num_classes=100))
