_base_ = 'mmdet::pascal_voc/faster-rcnn_r50_fpn_1x_voc0712.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(neck=dict(type='mmattn.AWFPN', conv_cfg=dict(type='mmattn.AWConv2d', norm='SyncBN')))
