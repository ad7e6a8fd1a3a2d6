"""CNN with three hidden layers as published: the third stage never runs."""

_base_ = './_base_/report_cifar10.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(backbone=dict(idle_stage=True))
