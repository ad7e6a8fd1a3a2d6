"""COCO as multi-label classification: top, m3."""

_base_ = './td-resnet50-joint-t2m1_8xb16_coco-multilabel.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(backbone=dict(preset='r50-top-t2m3'))
