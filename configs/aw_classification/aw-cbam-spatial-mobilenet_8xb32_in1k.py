"""AW-CBAM-MobileNet (Spatial), Table 1 of the AW paper."""

_base_ = './_base_/mobilenet_in1k.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmattn.Attend',
        wrapped='mmattn.MobileNetV1',
        out_indices=(4,),
        attention=[
            dict(conv=dict(type='mmattn.AWConv2d'), replace=r'.*pointwise_conv\.conv'),
            dict(
                gate=dict(type='mmattn.CBAM', max_pool=False),
                after=r'stage.*(depthwise|pointwise)_conv',
            ),
        ],
    )
)
