"""With SSIA, from the last map of each size."""

_base_ = './shufflenet-v2_1xb32-100e_mini-imagenet.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(type='mmattn.SSIA', wrapped='ImageClassifier', taps=('backbone.maxpool', 0, 1, 2))
custom_hooks = [dict(type='mmattn.SSIAHook')]
