"""CNN + CBAM as the text says: after all four convolutions."""

_base_ = './_base_/report_cifar10.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(
    backbone=dict(
        attention=[
            dict(gate=dict(type='mmattn.CBAM'), after=r'stage\d\.conv\d'),
        ],
    )
)
