"""The same detector with AW-FPN: this is what `make demo` trains."""

_base_ = './faster-rcnn_r18_fpn_350i_digits.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(neck=dict(type='mmattn.AWFPN'))
