"""As cifar10_224_100e.py, for CIFAR-100."""

_base_ = './cifar10_224_100e.py'

data_preprocessor = dict(num_classes=100)
dataset = dict(type='CIFAR100', data_root='data/cifar100')
train_dataloader = dict(dataset=dataset)
val_dataloader = dict(dataset=dataset)
test_dataloader = dict(dataset=dataset)
