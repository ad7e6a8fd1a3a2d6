"""Table 1: both signals, with the weights of that table's text."""

_base_ = './resnet50-ssia_1xb32-100e_mini-imagenet.py'

model = dict(lambda_s=0.5, lambda_c=1.5)
