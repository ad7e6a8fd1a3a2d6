"""The narrow ResNet-18 with CBAM as a classifier whose weights start a detector.

docs/pretrained.md has the commands. The scenes come from
`python tools/dataset_converters/make_digits.py data/one_digit_16000 --one-digit --size 32
--train 16000 --val 500`.
"""

_base_ = './resnet18-cbam_750i_one-digit.py'

# model: the convolutions of a detector's backbone, at more places: dilation instead of two strides
model = dict(backbone=dict(strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4)))

# data: colours as the detector takes them, digits of 30 px as in its scenes
data_preprocessor = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
data_root = 'data/one_digit_16000'
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomCrop', crop_size=32, padding=3, padding_mode='reflect'),
    dict(type='Resize', scale=(80, 80)),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(80, 80)),
    dict(type='PackInputs'),
]
train_dataloader = dict(dataset=dict(data_root=data_root, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(data_root=data_root, pipeline=test_pipeline))
test_dataloader = val_dataloader

# schedule
param_scheduler = dict(total_steps=1500)
train_cfg = dict(max_iters=1500, val_interval=500)
default_hooks = dict(checkpoint=dict(interval=1500))
