"""CNN + CBAM as the text says: after all four convolutions; a plain head."""

_base_ = './report-cnn-cbam-4_10e_cifar10.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(head=dict(type='LinearClsHead'))
