"""The same for VOC's layout: 8 images of VOC2007 trainval, overfitted."""

_base_ = './faster-rcnn_r18_aw-fpn_240i_coco-8.py'

model = dict(roi_head=dict(bbox_head=dict(num_classes=20)))

data_root = 'data/VOCdevkit/'
dataset = dict(
    _delete_=True,
    type='VOCDataset',
    data_root=data_root,
    ann_file='VOC2007/ImageSets/Main/trainval.txt',
    data_prefix=dict(sub_data_root='VOC2007/'),
    indices=[0, 1, 2, 4, 5, 7, 9, 10],
    pipeline={{_base_.pipeline}},
)
train_dataloader = dict(dataset=dataset)
# VOC's measure reads the boxes after the pipeline: Resize must not see them
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(320, 320), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'instances'),
    ),
]
test_dataset = dict(dataset, test_mode=True, pipeline=test_pipeline)
val_dataloader = dict(dataset=test_dataset)
test_dataloader = dict(dataset=test_dataset)

# COCO's AP50, and VOC's own measure beside it
val_evaluator = [
    dict(type='CocoMetric', metric='bbox'),
    dict(type='VOCMetric', metric='mAP', eval_mode='area'),
]
test_evaluator = val_evaluator
