"""ResNet-101, a baseline of the TDAM paper."""

_base_ = './_base_/resnet101_tdam_in1k.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)
