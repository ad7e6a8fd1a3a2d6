"""Stanford Dogs. mmpretrain has no data set of that name: two text files list the images.

A line of train.txt and test.txt is `n02085620-Chihuahua/n02085620_10074.jpg 0`.

Plain fine-tuning; the paper's setting is td-resnet50-joint-t2m1-wsdan_1xb16-80e_stanford-dogs.py.
"""

_base_ = './td-resnet50-joint-t2m1_8xb8_cub.py'

model = dict(head=dict(num_classes=120))
data_preprocessor = dict(num_classes=120)
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='CustomDataset',
        data_root='data/stanford_dogs',
        ann_file='train.txt',
        data_prefix='Images',
        pipeline={{_base_.train_pipeline}},
    )
)
val_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='CustomDataset',
        data_root='data/stanford_dogs',
        ann_file='test.txt',
        data_prefix='Images',
        pipeline={{_base_.test_pipeline}},
    )
)
test_dataloader = val_dataloader
