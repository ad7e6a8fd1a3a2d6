"""CUB-200-2011 from a plain checkpoint: the network starts as the plain one.

Plain fine-tuning; the paper's setting is td-resnet50-joint-t2m1-wsdan_1xb16-80e_cub.py.
"""

_base_ = 'mmpretrain::resnet/resnet50_8xb8_cub.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(
    backbone=dict(
        type='mmattn.TDResNet', preset='r50-joint-t2m1', init='identity', norm_eval=False
    )
)
