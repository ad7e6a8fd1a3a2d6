"""A narrow ResNet-18 with CBAM on one-digit scenes: a classifier to start a detector from.

The scenes come from
`python tools/dataset_converters/make_digits.py data/one_digit_96 --one-digit --size 96
--train 3000`.
"""

_base_ = './resnet18-cbam_750i_one-digit.py'

# model: the strides of a detector's backbone
model = dict(backbone=dict(strides=(1, 2, 2, 2)))

# data
data_root = 'data/one_digit_96'
pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
train_dataloader = dict(dataset=dict(data_root=data_root, pipeline=pipeline))
val_dataloader = dict(dataset=dict(data_root=data_root, pipeline=pipeline))
test_dataloader = val_dataloader
# as the detector sees its images
data_preprocessor = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])

# schedule
param_scheduler = dict(total_steps=600)
train_cfg = dict(max_iters=600, val_interval=600)
default_hooks = dict(checkpoint=dict(interval=600))
