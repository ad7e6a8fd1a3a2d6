"""The detector of the demo with top-down attention, from scratch on the digit scenes."""

_base_ = '../demo/faster-rcnn_r18_fpn_350i_digits.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(backbone=dict(type='mmattn.TDResNet', preset='r18-joint-t2m2'))
