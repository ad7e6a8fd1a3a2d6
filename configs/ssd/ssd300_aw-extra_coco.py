_base_ = 'mmdet::ssd/ssd300_coco.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

# our reading of the paper's missing supplement: all convolutions of the extra layers
model = dict(
    neck=dict(conv_cfg=dict(type='mmattn.AWConv2d', norm='SyncBN')),
    bbox_head=dict(type='mmattn.SSDHead'),
)
