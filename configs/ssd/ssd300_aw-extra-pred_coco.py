_base_ = 'mmdet::ssd/ssd300_coco.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

# our reading of the paper's missing supplement: the extra layers and what predicts
model = dict(
    neck=dict(conv_cfg=dict(type='mmattn.AWConv2d', norm='SyncBN')),
    bbox_head=dict(
        type='mmattn.Attend',
        wrapped='mmattn.SSDHead',
        attention=[dict(conv=dict(type='mmattn.AWConv2d'), replace='(cls|reg)_convs.*')],
    ),
)
