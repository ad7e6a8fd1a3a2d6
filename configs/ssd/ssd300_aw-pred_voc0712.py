_base_ = 'mmdet::pascal_voc/ssd300_voc0712.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

# our reading of the paper's missing supplement: all convolutions that predict
model = dict(
    bbox_head=dict(
        type='mmattn.Attend',
        wrapped='mmattn.SSDHead',
        attention=[dict(conv=dict(type='mmattn.AWConv2d'), replace='(cls|reg)_convs.*')],
    ),
)
