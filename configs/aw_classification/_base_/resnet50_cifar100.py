"""ResNet-50 with a CIFAR stem for CIFAR-100. The recipe is ours.

300 epochs, batch 128, lr 0.1 divided by 10 at 150 and 225, weight decay 5e-4, as is usual for
comparisons of attention modules on CIFAR-100.
"""

_base_ = [
    'mmpretrain::_base_/datasets/cifar100_bs16.py',
    'mmpretrain::_base_/default_runtime.py',
]

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='mmattn.AttentionResNet',
        depth=50,
        out_indices=(3,),
        style='caffe',
        cifar_stem=True,
        norm_eval=False,
        init_cfg=dict(type='Kaiming', layer=['Conv2d']),
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=100,
        in_channels=2048,
        loss=dict(type='CrossEntropyLoss', loss_weight=1.0),
        topk=(1, 5),
    ),
)

train_dataloader = dict(batch_size=128)
val_dataloader = dict(batch_size=128)
test_dataloader = dict(batch_size=128)
val_evaluator = dict(topk=(1, 5))
test_evaluator = val_evaluator

# schedule
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=5e-4))
param_scheduler = dict(type='MultiStepLR', by_epoch=True, milestones=[150, 225], gamma=0.1)
train_cfg = dict(by_epoch=True, max_epochs=300, val_interval=1)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(base_batch_size=128)
