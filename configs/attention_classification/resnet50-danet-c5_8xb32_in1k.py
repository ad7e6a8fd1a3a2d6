"""Position and channel attention (DANet) after stage 4, in a classifier."""

_base_ = './_base_/resnet50_in1k.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(
    backbone=dict(
        attention=[
            dict(gate=dict(type='mmattn.DualAttention'), position='after_stage', stages=(3,))
        ]
    )
)
