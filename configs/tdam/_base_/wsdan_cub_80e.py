"""WS-DAN on CUB-200-2011: the schedule of its paper on one GPU, the images of its PyTorch code."""

_base_ = 'mmpretrain::resnet/resnet50_8xb8_cub.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

# model: from plain ImageNet-1k weights
model = dict(
    type='mmattn.WSDAN',
    backbone=dict(
        init_cfg=dict(_delete_=True, type='Pretrained', checkpoint='torchvision://resnet50')
    ),
    neck=None,
    head=dict(
        _delete_=True, type='mmattn.WSDANHead', num_classes=200, in_channels=2048, topk=(1, 5)
    ),
)

# data
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(512, 512)),
    dict(type='RandomCrop', crop_size=448),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='ColorJitter', brightness=0.126, saturation=0.5),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(512, 512)),
    dict(type='CenterCrop', crop_size=448),
    dict(type='PackInputs'),
]
train_dataloader = dict(batch_size=16, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(batch_size=16, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(topk=(1, 5))
test_evaluator = val_evaluator

# schedule
optim_wrapper = dict(optimizer=dict(lr=1e-3, weight_decay=1e-5, nesterov=False))
param_scheduler = dict(_delete_=True, type='StepLR', by_epoch=True, step_size=2, gamma=0.9)
train_cfg = dict(max_epochs=80)
auto_scale_lr = dict(base_batch_size=16)
