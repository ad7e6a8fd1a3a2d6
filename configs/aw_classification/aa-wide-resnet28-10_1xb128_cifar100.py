"""AA-Wide-ResNet on CIFAR-100, Table 2 of the AW paper."""

_base_ = './_base_/wide-resnet28-10_cifar100.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(
    backbone=dict(
        attention=[
            dict(
                conv=dict(type='mmattn.AAConv2d', map_size=(side, side)),
                replace=f'layer{stage}.*conv1',
            )
            for stage, side in ((1, 32), (2, 16), (3, 8))
        ]
    )
)
