"""CNN + Conv. Autoencoder + ECA: the channel gate comes first."""

_base_ = './_base_/report_cifar10.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(
    backbone=dict(
        type='mmattn.Attend',
        wrapped='mmattn.ReportCNN',
        sample=(3, 32, 32),
        attention=[
            dict(
                gate=dict(
                    type='mmattn.Sequence',
                    gates=[
                        dict(type='mmattn.ECA', kernel_size=3),
                        dict(type='mmattn.ConvAutoencoderAttention', size=32),
                    ],
                ),
                after=r'stage1\.conv1',
            ),
            dict(
                gate=dict(
                    type='mmattn.Sequence',
                    gates=[
                        dict(type='mmattn.ECA', kernel_size=3),
                        dict(type='mmattn.ConvAutoencoderAttention', size=30),
                    ],
                ),
                after=r'stage1\.conv2',
            ),
            dict(
                gate=dict(
                    type='mmattn.Sequence',
                    gates=[
                        dict(type='mmattn.ECA', kernel_size=3),
                        dict(type='mmattn.ConvAutoencoderAttention', size=15),
                    ],
                ),
                after=r'stage2\.conv1',
            ),
            dict(
                gate=dict(
                    type='mmattn.Sequence',
                    gates=[
                        dict(type='mmattn.ECA', kernel_size=3),
                        dict(type='mmattn.ConvAutoencoderAttention', size=13),
                    ],
                ),
                after=r'stage2\.conv2',
            ),
        ],
    )
)
