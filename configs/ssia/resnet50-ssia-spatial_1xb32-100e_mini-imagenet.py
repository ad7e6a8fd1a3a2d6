"""Table 1: the spatial signal alone."""

_base_ = './resnet50-ssia_1xb32-100e_mini-imagenet.py'

model = dict(lambda_s=1.0, lambda_c=0.0)
