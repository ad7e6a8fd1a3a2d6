"""A narrow ResNet-18 with CBAM, trained on the classes of one-digit scenes; the demo uses it.

The scenes, 32 px wide, come from
`python tools/dataset_converters/make_digits.py data/one_digit --one-digit --size 32 --train 3000`.
"""

_base_ = '../tdam/td-resnet18-joint-t2m2_20e_one-digit.py'

# model: stride 4 to its end, so the maps are fine
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmattn.AttentionResNet',
        depth=18,
        base_channels=16,
        strides=(1, 1, 1, 1),
        out_indices=(3,),
        frozen_stages=-1,
        norm_eval=False,
        zero_init_residual=False,
        attention=[dict(gate=dict(type='mmattn.CBAM'), position='after_conv2')],
    )
)

# data: every step of 32 scenes, of which the last of an epoch are left out
train_dataloader = dict(drop_last=True, sampler=dict(_delete_=True, type='InfiniteSampler'))

# schedule
optim_wrapper = dict(optimizer=dict(lr=8e-3))
param_scheduler = dict(
    _delete_=True, type='OneCycleLR', eta_max=8e-3, total_steps=750, by_epoch=False
)
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=750, val_interval=750)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(
    logger=dict(interval=50, log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=750),
)
log_processor = dict(by_epoch=False)
