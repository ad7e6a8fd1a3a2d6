"""Ten times as long."""

_base_ = './resnet18-ssia_8e_cifar10-jpeg.py'

param_scheduler = dict(T_max=80)
train_cfg = dict(max_epochs=80)
