"""Wide-ResNet-28-10 for CIFAR-100, on the recipe of the ResNets."""

_base_ = './resnet50_cifar100.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(
    backbone=dict(_delete_=True, type='mmattn.Attend', wrapped='mmattn.WideResNet', attention=[]),
    head=dict(in_channels=640),
)
