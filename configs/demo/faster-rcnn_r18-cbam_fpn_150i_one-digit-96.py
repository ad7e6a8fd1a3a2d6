"""The detector of the demo, narrow and with CBAM, on scenes of one digit.

From scratch as it stands; docs/pretrained.md starts it from the classifier of
`resnet18-cbam-s32_750i_one-digit.py`. The scenes come from
`python tools/dataset_converters/make_digits.py data/one_digit_96 --one-digit --size 96
--train 3000`.
"""

_base_ = './faster-rcnn_r18_fpn_350i_digits.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(
    backbone=dict(
        type='mmattn.AttentionResNet',
        base_channels=16,
        attention=[dict(gate=dict(type='mmattn.CBAM'), position='after_conv2')],
    ),
    neck=dict(in_channels=[16, 32, 64, 128]),
)

# data: scenes of 96 pixels as they are
data_root = 'data/one_digit_96/'
meta_keys = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(96, 96), keep_ratio=True),
    dict(type='PackDetInputs', meta_keys=meta_keys),
]
train_dataloader = dict(dataset=dict(data_root=data_root, pipeline=pipeline))
val_dataloader = dict(dataset=dict(data_root=data_root, pipeline=pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val.json')
test_evaluator = val_evaluator

# schedule
train_cfg = dict(max_iters=150, val_interval=150)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=20),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=20, end=150, eta_min=1e-5),
]
default_hooks = dict(checkpoint=dict(interval=150))
