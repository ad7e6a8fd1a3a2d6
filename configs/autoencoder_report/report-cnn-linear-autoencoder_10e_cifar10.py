"""CNN + Linear Autoencoder."""

_base_ = './_base_/report_cifar10.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(
    backbone=dict(
        type='mmattn.Attend',
        wrapped='mmattn.ReportCNN',
        sample=(3, 32, 32),
        attention=[
            dict(
                gate=dict(type='mmattn.LinearAutoencoderAttention', width=32),
                after=r'stage1\.conv1',
            ),
            dict(
                gate=dict(type='mmattn.LinearAutoencoderAttention', width=30),
                after=r'stage1\.conv2',
            ),
            dict(
                gate=dict(type='mmattn.LinearAutoencoderAttention', width=15),
                after=r'stage2\.conv1',
            ),
            dict(
                gate=dict(type='mmattn.LinearAutoencoderAttention', width=13),
                after=r'stage2\.conv2',
            ),
        ],
    )
)
