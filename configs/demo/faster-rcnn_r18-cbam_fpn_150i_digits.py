"""The demo's detector, narrow and with CBAM, for 150 iterations.

From scratch as it stands; docs/pretrained.md starts it from the classifier of
`resnet18-cbam-dilated_1500i_one-digit.py`. The scenes come from
`python tools/dataset_converters/make_digits.py work_dirs/demo/digits`.
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

# schedule
train_cfg = dict(max_iters=150, val_interval=150)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=20),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=20, end=150, eta_min=1e-5),
]
default_hooks = dict(checkpoint=dict(interval=150))
