"""TDResNet-50 (joint, t2 m1) with WS-DAN on Stanford Dogs."""

_base_ = './_base_/wsdan_stanford-dogs_80e.py'

model = dict(
    backbone=dict(
        type='mmattn.TDResNet', preset='r50-joint-t2m1', init='identity', norm_eval=False
    )
)
