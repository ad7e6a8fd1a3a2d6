"""The detector of the demo with SSIA, from scratch on the digit scenes."""

_base_ = '../demo/faster-rcnn_r18_fpn_350i_digits.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(
    type='mmattn.SSIA',
    wrapped='FasterRCNN',
    taps=(0, 1, 2, 3),
    sample=(3, 160, 160),
)
custom_hooks = [dict(type='mmattn.SSIAHook')]
