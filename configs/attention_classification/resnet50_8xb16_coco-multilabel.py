"""ResNet-50 on COCO as multi-label classification."""

_base_ = './_base_/resnet50_coco-multilabel.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)
