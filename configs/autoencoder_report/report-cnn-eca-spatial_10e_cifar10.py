"""CNN + CBAM Spatial + ECA as published: after the first convolution of a stage."""

_base_ = './_base_/report_cifar10.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(
    backbone=dict(
        attention=[
            dict(
                gate=dict(
                    type='mmattn.Sequence',
                    gates=[
                        dict(type='mmattn.ECA', kernel_size=3),
                        dict(type='mmattn.SpatialGate'),
                    ],
                ),
                after=r'stage\d\.conv1',
            ),
        ],
    )
)
