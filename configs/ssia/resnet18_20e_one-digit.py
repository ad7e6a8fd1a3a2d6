"""One handwritten digit on clutter: a small classifier from scratch, on a CPU in minutes.

python tools/dataset_converters/make_digits.py data/one_digit --one-digit --size 32
"""

_base_ = '../tdam/td-resnet18-joint-t2m2_20e_one-digit.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='ResNet_CIFAR',  # no stride before the first stage
        depth=18,
        stem_channels=16,
        base_channels=16,
        strides=(1, 1, 1, 1),
        out_indices=(3,),
    )
)

# data: scenes of 32 pixels as they are
pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
train_dataloader = dict(dataset=dict(pipeline=pipeline))
val_dataloader = dict(dataset=dict(pipeline=pipeline))
test_dataloader = val_dataloader
