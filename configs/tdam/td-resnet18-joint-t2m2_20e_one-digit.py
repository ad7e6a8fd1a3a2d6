"""One handwritten digit on clutter: a narrow classifier from scratch, minutes on a CPU.

The scenes, 32 px wide, come from
`python tools/dataset_converters/make_digits.py data/one_digit --one-digit --size 32 --train 3000`.
"""

_base_ = ['mmpretrain::_base_/default_runtime.py']

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

# model: no stage but the stem reduces, so the last maps have 8 x 8 places
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='mmattn.TDResNet',
        preset='r18-joint-t2m2',
        base_channels=16,
        strides=(1, 1, 1, 1),
        out_indices=(3,),
        frozen_stages=-1,
        norm_eval=False,
        zero_init_residual=False,
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=10,
        in_channels=128,
        loss=dict(type='CrossEntropyLoss', loss_weight=1.0),
        topk=(1,),
        init_cfg=dict(type='Normal', layer='Linear', std=0.05),  # with mmpretrain's 0.01 it waits
    ),
)

# data
data_preprocessor = dict(num_classes=10, mean=[127.0] * 3, std=[64.0] * 3, to_rgb=True)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomCrop', crop_size=32, padding=3, padding_mode='reflect'),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(32, 32)),
    dict(type='PackInputs'),
]
# in the order of the folders, by which CustomDataset numbers them whatever the names here say
classes = ['eight', 'five', 'four', 'nine', 'one', 'seven', 'six', 'three', 'two', 'zero']
dataset = dict(type='CustomDataset', data_root='data/one_digit', classes=classes)
loader = dict(batch_size=32, num_workers=0, persistent_workers=False)
train_dataloader = dict(
    **loader,
    dataset=dict(**dataset, data_prefix='train', pipeline=train_pipeline),
    sampler=dict(type='DefaultSampler', shuffle=True),
)
val_dataloader = dict(
    **loader,
    dataset=dict(**dataset, data_prefix='val', pipeline=test_pipeline),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
val_evaluator = dict(type='Accuracy', topk=(1,))
test_dataloader = val_dataloader
test_evaluator = val_evaluator

# schedule
optim_wrapper = dict(optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.04, by_epoch=False, begin=0, end=225),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=225, end=20 * 94, eta_min=0),
]
train_cfg = dict(by_epoch=True, max_epochs=20, val_interval=10)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(base_batch_size=32)
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=10))
randomness = dict(seed=0)
