"""CNN + ECA."""

_base_ = './_base_/report_cifar10.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(
    backbone=dict(
        type='mmattn.Attend',
        wrapped='mmattn.ReportCNN',
        sample=(3, 32, 32),
        attention=[
            dict(gate=dict(type='mmattn.ECA', kernel_size=3), after=r'stage\d\.conv\d'),
        ],
    )
)
