"""The paper's recipe on CIFAR-10: images of 32 pixels, crops of them enlarged to 224."""

_base_ = './mini_imagenet_100e.py'

data_preprocessor = dict(num_classes=10, to_rgb=False)  # mmpretrain reads CIFAR as RGB
train_pipeline = [
    dict(type='RandomResizedCrop', scale=224),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='ResizeEdge', scale=256, edge='short'),
    dict(type='CenterCrop', crop_size=224),
    dict(type='PackInputs'),
]
dataset = dict(type='CIFAR10', data_root='data/cifar10')
train_dataloader = dict(
    dataset=dict(_delete_=True, **dataset, split='train', pipeline=train_pipeline)
)
val_dataloader = dict(dataset=dict(_delete_=True, **dataset, split='test', pipeline=test_pipeline))
test_dataloader = val_dataloader
