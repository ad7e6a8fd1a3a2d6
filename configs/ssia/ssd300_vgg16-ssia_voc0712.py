"""SSD300 with SSIA, which its authors left to future work.

From the maps after the poolings, and the last of the trunk.
"""

_base_ = 'mmdet::pascal_voc/ssd300_voc0712.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(
    type='mmattn.SSIA',
    wrapped='SingleStageDetector',
    bbox_head=dict(type='mmattn.SSDHead'),  # mmdet's cannot predict
    taps=(1, 2, 3, 4),
    sample=(3, 300, 300),
    norm='LN',  # a process has too few images for BatchNorm
)
custom_hooks = [dict(type='mmattn.SSIAHook')]
