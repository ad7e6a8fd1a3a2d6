"""The recipe of the public re-implementation of learn to pay attention, on CIFAR-100.

SGD at 0.1, halved every 25 of 300 epochs; an epoch passes over the images three times.
"""

_base_ = ['mmpretrain::_base_/datasets/cifar100_bs16.py', 'mmpretrain::_base_/default_runtime.py']

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(
    type='ImageClassifier',
    backbone=dict(type='mmattn.LearnToPayVGG', norm_cfg=dict(type='BN')),
    head=dict(
        type='mmattn.LearnToPayHead',
        num_classes=100,
        in_channels=[256, 512, 512, 512],
        topk=(1, 5),
    ),
)

train_dataloader = dict(
    batch_size=128,
    dataset=dict(
        _delete_=True, type='RepeatDataset', times=3, dataset={{_base_.train_dataloader.dataset}}
    ),
)
val_dataloader = dict(batch_size=128)
test_dataloader = dict(batch_size=128)
val_evaluator = dict(topk=(1, 5))
test_evaluator = val_evaluator

# schedule
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=5e-4))
param_scheduler = dict(type='StepLR', step_size=25, gamma=0.5, by_epoch=True)
train_cfg = dict(by_epoch=True, max_epochs=300, val_interval=1)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(base_batch_size=128)
