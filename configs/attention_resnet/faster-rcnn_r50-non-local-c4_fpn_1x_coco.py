_base_ = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(
    backbone=dict(
        type='mmattn.AttentionResNet',
        attention=[
            dict(
                gate=dict(type='mmattn.NonLocal', init='identity'),
                position='after_add',
                blocks={2: [-2]},
            )
        ],
    )
)
