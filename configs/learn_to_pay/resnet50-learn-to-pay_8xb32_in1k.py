_base_ = 'mmpretrain::resnet/resnet50_8xb32_in1k.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(
    backbone=dict(out_indices=(1, 2, 3)),
    neck=None,
    head=dict(type='mmattn.LearnToPayHead', in_channels=[512, 1024, 2048]),
)
