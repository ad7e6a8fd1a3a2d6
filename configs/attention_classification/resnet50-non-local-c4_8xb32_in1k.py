"""Non-local after the last block of stage 3, in a classifier."""

_base_ = './_base_/resnet50_in1k.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(
    backbone=dict(
        attention=[dict(gate=dict(type='mmattn.NonLocal'), position='after_add', blocks={2: [-1]})]
    )
)
