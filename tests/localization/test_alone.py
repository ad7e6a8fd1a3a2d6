"""What the extra ``localization`` promises: boxes where no framework is installed."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CODE = """
import sys

for name in ('mmcv', 'mmdet', 'mmpretrain', 'timm'):
    sys.modules[name] = None  # as where they are not installed
import cv2
import numpy as np
import torchvision

import mmattn

image = np.random.default_rng(0).integers(0, 255, (48, 64, 3), 'uint8')
cv2.imwrite('a.png', image)
net = torchvision.models.squeezenet1_1(weights=None, num_classes=3)
(found,) = mmattn.localize(net, 'a.png')
print('boxes', len(found.boxes_xyxy))
from tools import localize

assert localize.parse_args(['MODEL', '--images', 'a.png'])
try:
    mmattn.add_attention('mmdet::retinanet/retinanet_r50_fpn_1x_coco.py', 'CBAM')
except ImportError as error:
    print(error)
"""


def test_boxes_without_a_framework_and_a_sentence_for_the_rest(tmp_path):
    env = {**os.environ, 'PYTHONPATH': str(ROOT)}
    done = subprocess.run(
        [sys.executable, '-c', CODE], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert 'boxes 1\n' in done.stdout
    assert 'mmdet is not installed; mmattn needs mmdet >= 3.0.0 here: pip install' in done.stdout
