"""A classifier with the strides of a detector's backbone, and the detector that starts from it."""

from pathlib import Path

from tests.commands import ROOT

DEMO = ROOT / 'configs/demo'
CLASSIFIER = f"""
_base_ = '{DEMO}/resnet18-cbam_750i_one-digit.py'
model = dict(backbone=dict(strides=(1, 2, 2, 2)))
data_preprocessor = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
"""
DETECTOR = f"""
_base_ = '{DEMO}/faster-rcnn_r18_fpn_350i_digits.py'
model = dict(
    backbone=dict(
        type='mmattn.AttentionResNet',
        base_channels=16,
        attention=[dict(gate=dict(type='mmattn.CBAM'), position='after_conv2')],
    ),
    neck=dict(in_channels=[16, 32, 64, 128]),
)
"""


def write_configs(folder: Path) -> tuple[str, str]:
    """Write the configs of the classifier and the detector; returns their paths."""
    paths = folder / 'classifier.py', folder / 'detector.py'
    for path, text in zip(paths, (CLASSIFIER, DETECTOR)):
        path.write_text(text)
    return str(paths[0]), str(paths[1])
