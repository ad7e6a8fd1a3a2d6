"""The same for VOC's layout: 8 pictures of VOC2007 trainval, learned by heart."""

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
val_dataloader = dict(dataset=dict(test_mode=True, **dataset))
test_dataloader = dict(dataset=dict(test_mode=True, **dataset))

# COCO's AP50, and VOC's own measure beside it
val_evaluator = [
    dict(type='CocoMetric', metric='bbox'),
    dict(type='VOCMetric', metric='mAP', eval_mode='area'),
]
test_evaluator = val_evaluator
