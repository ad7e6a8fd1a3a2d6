"""Twice the weights: those of the paper's section on settings."""

_base_ = './resnet18-ssia_8e_cifar10-jpeg.py'

model = dict(lambda_s=1.0, lambda_c=3.0)
