"""With SSIA."""

_base_ = './resnet18_20e_one-digit.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(type='mmattn.SSIA', wrapped='ImageClassifier', taps=(0, 1, 2, 3), sample=(3, 32, 32))
custom_hooks = [dict(type='mmattn.SSIAHook')]
