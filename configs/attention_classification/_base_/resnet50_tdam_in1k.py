"""ResNet-50 on the recipe of the TDAM authors for ImageNet-1k."""

_base_ = '../../tdam/_base_/imagenet_150e.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmattn.AttentionResNet',
        depth=50,
        out_indices=(3,),
        norm_eval=False,
        zero_init_residual=True,
    )
)
