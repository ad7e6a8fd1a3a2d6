_base_ = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(
    neck=[
        dict(type='mmattn.PyramidAttention', in_channels=[256, 512, 1024, 2048], init='identity'),
        {{_base_.model.neck}},
    ]
)
