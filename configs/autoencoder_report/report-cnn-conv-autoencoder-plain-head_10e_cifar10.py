"""CNN + Conv. Autoencoder; a plain head."""

_base_ = './report-cnn-conv-autoencoder_10e_cifar10.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(head=dict(type='LinearClsHead'))
