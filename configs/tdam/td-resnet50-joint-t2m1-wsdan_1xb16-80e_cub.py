_base_ = './_base_/wsdan_cub_80e.py'

model = dict(
    backbone=dict(
        type='mmattn.TDResNet', preset='r50-joint-t2m1', init='identity', norm_eval=False
    )
)
