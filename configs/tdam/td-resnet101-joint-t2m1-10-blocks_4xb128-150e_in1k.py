"""10 alternating blocks of stage 3 (0, 2, ..., 18), as the text says; not the printed cost."""

_base_ = './_base_/imagenet_150e.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(backbone=dict(preset='r101-joint-t2m1-10'))

test_pipeline = [
    dict(type='LoadImageFromFile'),
    # crop 0.95, as the authors' config of R101
    dict(type='ResizeEdge', scale=236, edge='short', backend='pillow', interpolation='bicubic'),
    dict(type='CenterCrop', crop_size=224),
    dict(type='PackInputs'),
]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
