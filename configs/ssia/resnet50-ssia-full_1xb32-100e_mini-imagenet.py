"""The weights of the paper's section on settings; the tables' rows with both signals have half."""

_base_ = './resnet50-ssia_1xb32-100e_mini-imagenet.py'

model = dict(lambda_s=1.0, lambda_c=3.0)
