"""As cifar100_300e.py, for CIFAR-10."""

_base_ = './cifar100_300e.py'

model = dict(head=dict(num_classes=10))
data_preprocessor = dict(
    num_classes=10, mean=[125.307, 122.961, 113.8575], std=[51.5865, 50.847, 51.255]
)
dataset = dict(type='CIFAR10', data_root='data/cifar10')
train_dataloader = dict(dataset=dict(dataset=dataset))
val_dataloader = dict(dataset=dataset)
test_dataloader = dict(dataset=dataset)
