"""Table 1: the channel signal alone."""

_base_ = './resnet50-ssia_1xb32-100e_mini-imagenet.py'

model = dict(lambda_s=0.0, lambda_c=3.0)
