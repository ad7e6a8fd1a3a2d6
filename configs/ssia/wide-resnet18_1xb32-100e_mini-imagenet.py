_base_ = ['mmpretrain::_base_/models/resnet18.py', './_base_/mini_imagenet_100e.py']

# twice as wide as ResNet-18
model = dict(backbone=dict(base_channels=128), head=dict(in_channels=1024, num_classes=100))
