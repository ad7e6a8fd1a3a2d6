"""Table 2: every stage predicts itself."""

_base_ = './resnet50-ssia_1xb32-100e_mini-imagenet.py'

model = dict(scheme='identity')
