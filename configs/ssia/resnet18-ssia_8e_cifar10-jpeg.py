"""With SSIA, lambda_s, lambda_c = 0.5, 1.5."""

_base_ = './resnet18_8e_cifar10-jpeg.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(type='mmattn.SSIA', wrapped='ImageClassifier', taps=(0, 1, 2, 3), sample=(3, 32, 32))
custom_hooks = [dict(type='mmattn.SSIAHook')]
