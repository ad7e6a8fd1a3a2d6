_base_ = 'mmdet::pascal_voc/ssd300_voc0712.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

# a gate after the last ReLU of every stage of the trunk and of the two layers after it
model = dict(
    backbone=dict(
        type='mmattn.Attend',
        wrapped='SSDVGG',
        attention=[
            dict(
                gate=dict(type='mmattn.SE', init='identity'),
                after=r'features\.(3|8|15|22|29|34)',
            )
        ],
    ),
    bbox_head=dict(type='mmattn.SSDHead'),
)
