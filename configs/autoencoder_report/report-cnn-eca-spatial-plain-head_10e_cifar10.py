"""CNN + CBAM Spatial + ECA as published: after the first convolution of a stage; a plain head."""

_base_ = './report-cnn-eca-spatial_10e_cifar10.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(head=dict(type='LinearClsHead'))
