_base_ = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(
    backbone=dict(
        type='mmattn.AttentionResNet',
        conv2=dict(type='mmattn.AAConv2d', map_size=(25, 42), init='identity'),
        conv2_stages=(2, 3),
    )
)
