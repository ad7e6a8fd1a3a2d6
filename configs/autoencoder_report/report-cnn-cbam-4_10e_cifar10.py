"""CNN + CBAM as the text says: after all four convolutions."""

_base_ = './_base_/report_cifar10.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(
    backbone=dict(
        type='mmattn.Attend',
        wrapped='mmattn.ReportCNN',
        sample=(3, 32, 32),
        attention=[
            dict(gate=dict(type='mmattn.CBAM'), after=r'stage\d\.conv\d'),
        ],
    )
)
