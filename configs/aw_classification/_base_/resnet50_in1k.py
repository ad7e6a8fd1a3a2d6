"""ResNet-50 for ImageNet-1k. The paper's recipe is not known to us; this is mmpretrain's."""

_base_ = [
    'mmpretrain::_base_/datasets/imagenet_bs32.py',
    'mmpretrain::_base_/schedules/imagenet_bs256.py',
    'mmpretrain::_base_/default_runtime.py',
]

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='mmattn.AttentionResNet',
        depth=50,
        out_indices=(3,),
        style='caffe',  # the stride in the first 1x1: what the printed GFLOPs count
        norm_eval=False,
        init_cfg=dict(type='Kaiming', layer=['Conv2d']),
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=2048,
        loss=dict(type='CrossEntropyLoss', loss_weight=1.0),
        topk=(1, 5),
    ),
)
