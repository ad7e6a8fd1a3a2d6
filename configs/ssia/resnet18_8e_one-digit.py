"""One handwritten digit on clutter: a small classifier from scratch, on a CPU in a minute.

python tools/dataset_converters/make_digits.py data/one_digit --one-digit --size 96
"""

_base_ = '../tdam/td-resnet18-joint-t2m2_8e_one-digit.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='ResNet',
        depth=18,
        stem_channels=16,
        base_channels=16,
        out_indices=(3,),
    )
)
