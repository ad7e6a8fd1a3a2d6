"""Faster R-CNN with SSIA, which its authors left to future work.

Stage 0 is frozen, so the first tap is stage 1.
"""

_base_ = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'

custom_imports = dict(imports=['mmattn.registry'], allow_failed_imports=False)

model = dict(
    type='mmattn.SSIA',
    wrapped='FasterRCNN',
    taps=(1, 2, 3),
    lambdas=(2, 3),  # the paper's of these two blocks; 1 is that of stage 0
    norm='LN',  # a process has too few images for BatchNorm
)
custom_hooks = [dict(type='mmattn.SSIAHook')]
