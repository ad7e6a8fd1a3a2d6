"""As wsdan_cub_80e.py, for Stanford Dogs. mmpretrain has no data set of that name.

A line of train.txt and test.txt is `n02085620-Chihuahua/n02085620_10074.jpg 0`.
"""

_base_ = './wsdan_cub_80e.py'

model = dict(head=dict(num_classes=120))
data_preprocessor = dict(num_classes=120)
dogs = dict(
    _delete_=True, type='CustomDataset', data_root='data/stanford_dogs', data_prefix='Images'
)
train_dataloader = dict(
    dataset=dict(**dogs, ann_file='train.txt', pipeline={{_base_.train_pipeline}})
)
val_dataloader = dict(dataset=dict(**dogs, ann_file='test.txt', pipeline={{_base_.test_pipeline}}))
test_dataloader = val_dataloader

# schedule: the authors' rate for dogs
optim_wrapper = dict(optimizer=dict(lr=1e-4))
