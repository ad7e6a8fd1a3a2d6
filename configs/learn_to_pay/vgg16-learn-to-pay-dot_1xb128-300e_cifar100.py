"""VGG-16 with dot products as compatibility (dp) on CIFAR-100."""

_base_ = './_base_/cifar100_300e.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(head=dict(compatibility='dot'))
