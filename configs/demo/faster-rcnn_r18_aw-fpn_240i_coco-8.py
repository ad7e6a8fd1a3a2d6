"""AW-FPN overfits 8 images of COCO (320 px, from scratch): does everything work?

The images are eight of the first ones of train2017 that hold no box under 15 px at this size.
Trained and tested on the same eight.
"""

_base_ = '../bccd/faster-rcnn_r18_aw-fpn_10e_bccd.py'

model = dict(roi_head=dict(bbox_head=dict(num_classes=80)))

data_root = 'data/coco/'
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(320, 320), keep_ratio=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'instances'),
    ),
]
dataset = dict(
    type='CocoDataset',
    data_root=data_root,
    ann_file='annotations/instances_train2017.json',
    data_prefix=dict(img='train2017/'),
    indices=[0, 1, 2, 3, 4, 5, 7, 8],
    pipeline=pipeline,
)
train_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type='InfiniteSampler'),
    dataset=dict(_delete_=True, **dataset),
)
val_dataloader = dict(
    batch_size=4,
    num_workers=0,
    persistent_workers=False,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(test_mode=True, **dataset),
)
test_dataloader = dict(_delete_=True, **val_dataloader)
val_evaluator = dict(type='CocoMetric', metric='bbox')  # judges by the boxes of these eight
test_evaluator = dict(_delete_=True, **val_evaluator)

train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=240, val_interval=60)
val_cfg = dict(type='ValLoop')
optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=30, end=240, eta_min=1e-5),
]
default_hooks = dict(
    logger=dict(interval=10, log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=20, max_keep_ckpts=2),
)
log_processor = dict(by_epoch=False)
randomness = dict(seed=0)
