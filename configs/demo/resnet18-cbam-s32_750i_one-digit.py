"""The demo's classifier of one digit with the strides of a detector's backbone, to start one from.

The scenes, 32 px wide, come from
`python tools/dataset_converters/make_digits.py data/one_digit --one-digit --size 32 --train 3000`.
"""

_base_ = './resnet18-cbam_750i_one-digit.py'

model = dict(backbone=dict(strides=(1, 2, 2, 2)))

# data: colours as the detector takes them
data_preprocessor = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])

# schedule
optim_wrapper = dict(optimizer=dict(lr=3e-3))
param_scheduler = dict(eta_max=3e-3)
