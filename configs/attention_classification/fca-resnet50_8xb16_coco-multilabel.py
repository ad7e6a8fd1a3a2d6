"""FcaNet-ResNet-50 on COCO as multi-label classification, from plain weights."""

_base_ = './_base_/resnet50_coco-multilabel.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(
    backbone=dict(
        attention=[dict(gate=dict(type='mmattn.FcaNet', init='identity'), position='after_conv3')]
    )
)
