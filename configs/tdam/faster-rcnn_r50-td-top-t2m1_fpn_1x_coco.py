_base_ = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

# the plain ImageNet weights stay: the network starts as the plain one
model = dict(backbone=dict(type='mmattn.TDResNet', preset='r50-top-t2m1', init='identity'))
