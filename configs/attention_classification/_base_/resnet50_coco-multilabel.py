"""ResNet-50 from ImageNet weights on the multi-label recipe of configs/tdam."""

_base_ = '../../tdam/td-resnet50-joint-t2m1_8xb16_coco-multilabel.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmattn.AttentionResNet',
        depth=50,
        out_indices=(3,),
        norm_eval=False,
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50'),
    )
)
