"""ImageNet-1k with the recipe of the paper."""

_base_ = ['mmpretrain::_base_/models/resnet50.py', './_base_/mini_imagenet_100e.py']

data_preprocessor = dict(num_classes=1000)
train_dataloader = dict(
    batch_size=64,
    dataset=dict(type='ImageNet', data_root='data/imagenet', ann_file='', split='train'),
)
val_dataloader = dict(
    dataset=dict(type='ImageNet', data_root='data/imagenet', ann_file='', split='val'),
)
test_dataloader = val_dataloader
auto_scale_lr = dict(base_batch_size=64)
