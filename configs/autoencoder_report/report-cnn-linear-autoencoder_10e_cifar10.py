"""CNN + Linear Autoencoder."""

_base_ = './_base_/report_cifar10.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

places = (
    (r'stage1\.conv1', 32),
    (r'stage1\.conv2', 30),
    (r'stage2\.conv1', 15),
    (r'stage2\.conv2', 13),
)
model = dict(
    backbone=dict(
        attention=[
            dict(gate=dict(type='mmattn.LinearAutoencoderAttention', width=side), after=conv)
            for conv, side in places
        ]
    )
)
