"""The same VGG-16 without attention on CIFAR-100: a linear layer on its last map."""

_base_ = './_base_/cifar100_300e.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        _delete_=True,
        type='LinearClsHead',
        num_classes=100,
        in_channels=512,
        topk=(1, 5),
    ),
)
