_base_ = 'mmdet::faster_rcnn/faster-rcnn_r101_fpn_1x_coco.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(
    neck=dict(
        type='mmattn.AWFPN',
        conv_cfg=dict(type='mmattn.AWConv2d', norm='SyncBN'),
        gate_cfg=dict(type='mmattn.SE'),
    )
)
