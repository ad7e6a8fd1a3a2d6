"""The report's protocol: 45,000 / 5,000 images, 10 epochs, the best on validation is tested.

Source: the report and its code: split by ``random_split`` with seed 42, images normalized and
nothing else, batch 128 (the last incomplete one dropped), SGD with lr 0.1 and no momentum, no
schedule that acts (the code builds it anew each epoch). Ours: the mean and standard deviation.
16 runs a row: seeds 0 to 15.
"""

_base_ = ['mmpretrain::_base_/default_runtime.py']

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='mmattn.Attend', wrapped='mmattn.ReportCNN', sample=(3, 32, 32), attention=[]
    ),
    head=dict(
        type='mmattn.ReportHead',
        num_classes=10,
        in_channels=512,
        init_cfg=dict(type='Kaiming', layer='Linear', mode='fan_in'),
        topk=(1,),
    ),
)

# data
data_preprocessor = dict(
    num_classes=10,
    mean=[125.307, 122.961, 113.8575],
    std=[51.5865, 50.847, 51.255],
    to_rgb=False,  # CIFAR's arrays are RGB
)
pipeline = [dict(type='PackInputs')]
train_dataloader = dict(
    batch_size=128,
    num_workers=2,
    drop_last=True,
    dataset=dict(
        type='mmattn.RandomSplit',
        lengths=(45000, 5000),
        part=0,
        dataset=dict(type='CIFAR10', data_root='data/cifar10', split='train', pipeline=pipeline),
    ),
    sampler=dict(type='DefaultSampler', shuffle=True),
)
val_dataloader = dict(
    batch_size=128,
    num_workers=2,
    dataset=dict(
        type='mmattn.RandomSplit',
        lengths=(45000, 5000),
        part=1,
        dataset=dict(type='CIFAR10', data_root='data/cifar10', split='train', pipeline=pipeline),
    ),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
test_dataloader = dict(
    batch_size=128,
    num_workers=2,
    dataset=dict(type='CIFAR10', data_root='data/cifar10', split='test', pipeline=pipeline),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
val_evaluator = dict(type='Accuracy', topk=(1,))
test_evaluator = val_evaluator

# schedule
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1))
train_cfg = dict(by_epoch=True, max_epochs=10, val_interval=1)
val_cfg = dict()
test_cfg = dict()
default_hooks = dict(checkpoint=dict(save_best='accuracy/top1', max_keep_ckpts=2))
auto_scale_lr = dict(base_batch_size=128)
