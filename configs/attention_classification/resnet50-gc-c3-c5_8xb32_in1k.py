"""Global context in every block of stages 2 to 4, in a classifier."""

_base_ = './_base_/resnet50_in1k.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(
    backbone=dict(
        attention=[
            dict(gate=dict(type='mmattn.GlobalContext'), position='after_conv3', stages=(1, 2, 3))
        ]
    )
)
