"""TDResNet-50 (top, t2 m3) with WS-DAN on CUB-200-2011."""

_base_ = './_base_/wsdan_cub_80e.py'

model = dict(
    backbone=dict(type='mmattn.TDResNet', preset='r50-top-t2m3', init='identity', norm_eval=False)
)
