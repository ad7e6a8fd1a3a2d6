"""CNN with three hidden layers as the text says; a plain head."""

_base_ = './report-cnn-3-stages_10e_cifar10.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(head=dict(type='LinearClsHead'))
