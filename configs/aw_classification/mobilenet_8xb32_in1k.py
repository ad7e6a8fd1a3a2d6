"""MobileNet, Table 1 of the AW paper."""

_base_ = './_base_/mobilenet_in1k.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)
