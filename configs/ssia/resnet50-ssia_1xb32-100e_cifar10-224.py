"""With SSIA."""

_base_ = './resnet50_1xb32-100e_cifar10-224.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(type='mmattn.SSIA', wrapped='ImageClassifier', taps=(0, 1, 2, 3))
custom_hooks = [dict(type='mmattn.SSIAHook')]
