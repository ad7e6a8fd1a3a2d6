"""Table 2: every signal from the last stage."""

_base_ = './resnet50-ssia_1xb32-100e_mini-imagenet.py'

model = dict(scheme='final')
