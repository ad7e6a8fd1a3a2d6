"""The same VGG-16 without attention on CIFAR-10: a linear layer on its last map."""

_base_ = './_base_/cifar10_300e.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        _delete_=True,
        type='LinearClsHead',
        num_classes=10,
        in_channels=512,
        topk=(1, 5),
    ),
)
