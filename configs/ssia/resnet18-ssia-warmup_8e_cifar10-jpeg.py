"""The predictors learn alone in the first 200 iterations, about two epochs."""

_base_ = './resnet18-ssia_8e_cifar10-jpeg.py'

model = dict(warmup=200)
