"""CNN with three hidden layers as the text says."""

_base_ = './_base_/report_cifar10.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(backbone=dict(stages=3))
