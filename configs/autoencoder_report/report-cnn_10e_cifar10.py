"""CNN."""

_base_ = './_base_/report_cifar10.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)
