"""COCO as multi-label classification with the paper's asymmetric loss. Schedule: ours.

The label files are those of mmpretrain's MultiLabelDataset; README.md shows how to make them.
"""

_base_ = ['mmpretrain::_base_/datasets/voc_bs16.py', 'mmpretrain::_base_/default_runtime.py']

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='mmattn.TDResNet',
        preset='r50-joint-t2m1',
        init='identity',
        out_indices=(3,),
        norm_eval=False,
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50'),
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='MultiLabelLinearClsHead',
        num_classes=80,
        in_channels=2048,
        loss=dict(type='AsymmetricLoss', gamma_neg=4.0, gamma_pos=0.0, clip=0.05),
    ),
)

# data
data_preprocessor = dict(num_classes=80)
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeEdge', scale=256, edge='short'),
    dict(type='CenterCrop', crop_size=224),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='MultiLabelDataset',
        data_root='data/coco',
        ann_file='annotations/multilabel_train2017.json',
        data_prefix='train2017',
        pipeline={{_base_.train_pipeline}},
    )
)
val_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='MultiLabelDataset',
        data_root='data/coco',
        ann_file='annotations/multilabel_val2017.json',
        data_prefix='val2017',
        pipeline=test_pipeline,
    )
)
test_dataloader = val_dataloader
val_evaluator = [
    dict(type='MultiLabelMetric'),
    dict(type='MultiLabelMetric', average='micro'),
    dict(type='AveragePrecision'),
]
test_evaluator = val_evaluator

# schedule
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.02, momentum=0.9, weight_decay=1e-4))
param_scheduler = dict(type='CosineAnnealingLR', T_max=40, by_epoch=True)
train_cfg = dict(by_epoch=True, max_epochs=40, val_interval=1)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(base_batch_size=128)
