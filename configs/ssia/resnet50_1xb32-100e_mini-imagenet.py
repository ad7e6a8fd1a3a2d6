_base_ = ['mmpretrain::_base_/models/resnet50.py', './_base_/mini_imagenet_100e.py']

model = dict(head=dict(num_classes=100))
