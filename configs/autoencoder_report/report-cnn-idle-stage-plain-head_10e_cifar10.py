"""CNN with three hidden layers as published: the third stage never runs; a plain head."""

_base_ = './report-cnn-idle-stage_10e_cifar10.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(head=dict(type='LinearClsHead'))
