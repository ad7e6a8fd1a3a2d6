"""With SSIA, from the maps after the poolings."""

_base_ = './vgg16_1xb32-100e_mini-imagenet.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(type='mmattn.SSIA', wrapped='ImageClassifier', taps=(1, 2, 3, 4))
custom_hooks = [dict(type='mmattn.SSIAHook')]
