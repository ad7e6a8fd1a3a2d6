"""AW-AA-Wide-ResNet-3 on CIFAR-100, Table 2 of the AW paper."""

_base_ = './_base_/resnet50_cifar100.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmattn.Attend',
        wrapped='mmattn.WideResNet',
        attention=[
            dict(
                conv=dict(type='mmattn.AAConv2d', map_size=(32, 32), aw='out'),
                replace='layer1.*conv1',
            ),
            dict(
                conv=dict(type='mmattn.AAConv2d', map_size=(16, 16), aw='out'),
                replace='layer2.*conv1',
            ),
            dict(
                conv=dict(type='mmattn.AAConv2d', map_size=(8, 8), aw='out'),
                replace='layer3.*conv1',
            ),
        ],
    ),
    head=dict(in_channels=640),
)
