_base_ = ['mmpretrain::_base_/models/resnet18.py', './_base_/mini_imagenet_100e.py']

# 1.5 times as wide as ResNet-18
model = dict(backbone=dict(base_channels=96), head=dict(in_channels=768, num_classes=100))
