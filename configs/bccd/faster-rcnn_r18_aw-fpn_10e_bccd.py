"""The same with AW-FPN."""

_base_ = './faster-rcnn_r18_fpn_10e_bccd.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(neck=dict(type='mmattn.AWFPN'))
