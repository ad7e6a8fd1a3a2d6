"""As imagenet_150e.py with 100 epochs and 10 more, as the authors trained R34."""

_base_ = './imagenet_150e.py'

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4 / 0.4, by_epoch=True, begin=0, end=5),
    dict(type='CosineAnnealingLR', T_max=95, eta_min=1e-6, by_epoch=True, begin=5, end=100),
]
train_cfg = dict(max_epochs=110)
