"""Train a classifier on one-digit scenes, class names only, and let it localize the digits.

    python tools/demo_localization.py

The second half of ``make demo``, 2 minutes on 2 cores: draws the scenes, trains a small ResNet-18
with CBAM, runs tools/localize.py on scenes it has never seen, and ends with the table and the
report's path. No box is used in training. Everything lies in work_dirs/demo/localization.
"""

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')  # many times faster on a busy CPU

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from mmengine.logging import MMLogger
from torch import nn

from mmattn.cli.run_log import child_environment, write_json

TOOLS = Path(__file__).absolute().parent
SIZE, MEAN, STD = 32, 127.0, 64.0
BATCH = 32
CLASSES = ('zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine')
# A digit is three cells of the last map wide, and the map fades out over another cell on every
# side: at 15 % of the maximum all of that is inside the box. The training scenes say 50 %.
MAPS = ('--cam', 'layercam', '--rule', 'gradcam-0.50')


class DigitClassifier(nn.Module):
    """A narrow ResNet-18 with CBAM in every block; stride 4 to its end, so maps are fine."""

    def __init__(self):
        from mmattn.backbones.attention_resnet import AttentionResNet

        super().__init__()
        self.backbone = AttentionResNet(
            18,
            base_channels=16,
            strides=(1, 1, 1, 1),
            out_indices=(3,),
            frozen_stages=-1,
            norm_eval=False,
            zero_init_residual=False,
            init_cfg=None,
            attention=[dict(gate=dict(type='mmattn.CBAM'), position='after_conv2')],
        )
        self.fc = nn.Linear(128, len(CLASSES))

    def forward(self, x):
        return self.fc(self.backbone(x)[-1].mean((2, 3)))


def classifier(checkpoint):
    """What ``tools/localize.py python:tools/demo_localization.py:classifier`` asks for."""
    model = DigitClassifier()
    model.load_state_dict(torch.load(checkpoint, map_location='cpu', weights_only=True))
    channels = dict(mean=(MEAN,) * 3, std=(STD,) * 3)
    return model, dict(input_size=(SIZE, SIZE), classes=CLASSES, **channels)


def read_split(folder):
    """Reads a folder of class folders: images (N, 3, H, W) uint8 and labels (N,)."""
    files = sorted(Path(folder).rglob('*.jpg'))
    images = np.stack([cv2.imread(str(f))[..., ::-1] for f in files])
    labels = torch.tensor([CLASSES.index(f.parent.name) for f in files])
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), labels


def shifted(images, most=3):
    """Normalizes a batch and moves it by a few pixels, for training."""
    x = F.pad((images.float() - MEAN) / STD, (most,) * 4, mode='reflect')
    dy, dx = torch.randint(0, 2 * most + 1, (2,)).tolist()
    return x[..., dy : dy + images.shape[2], dx : dx + images.shape[3]]


def train(data, checkpoint, steps, lr=8e-3):
    """Trains on the training split and saves the weights.

    Returns:
        Fraction of the validation images that are classified right.
    """
    torch.manual_seed(0)
    MMLogger.get_instance('demo', log_level='ERROR')  # mmengine lists every layer it initializes
    images, labels = read_split(data / 'train')
    model = DigitClassifier()
    model.backbone.init_weights()
    model = model.to(memory_format=torch.channels_last)  # faster on CPUs
    optimizer = torch.optim.AdamW(model.parameters(), lr, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, steps)
    epochs = -(-steps * BATCH // len(images))
    order = torch.cat([torch.randperm(len(images)) for _ in range(epochs)])
    start, total = time.monotonic(), 0.0
    for step, chosen in enumerate(order[: steps * BATCH].view(steps, BATCH), 1):
        loss = F.cross_entropy(model(shifted(images[chosen])), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        total += loss.item()
        if step % 50 == 0 or step == steps:
            left = (time.monotonic() - start) / step * (steps - step)
            mean = total / ((step - 1) % 50 + 1)
            print(f'  train {step}/{steps}  loss {mean:.3f}  time left {left:.0f} s', flush=True)
            total = 0.0
    torch.save(model.state_dict(), checkpoint)
    return accuracy(model, *read_split(data / 'val'))


@torch.no_grad()
def accuracy(model, images, labels):
    """Fraction of images classified right."""
    model.eval()
    scores = torch.cat([model((part.float() - MEAN) / STD) for part in images.split(100)])
    return float((scores.argmax(1) == labels).float().mean())


def localization_demo(root, scenes=3000, val_scenes=300, steps=750):
    """Draws, trains, localizes, reports.

    Args:
        root: Folder of the demo; everything goes into ``root/localization``, the figures also
            into ``root/summary.json``.
        scenes: Scenes to train on.
        val_scenes: Scenes to localize.
        steps: Training steps.

    Returns:
        The summary of tools/localize.py.

    Raises:
        RuntimeError: A step failed; its own words were shown.
    """
    if steps < 1:
        raise ValueError(f'steps must be at least 1, got {steps}')
    work, data = Path(root) / 'localization', Path(root) / 'one_digit'
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    print(f'1/3 scenes of one digit each -> {data}', flush=True)
    number = ['--train', scenes, '--val', val_scenes, '--size', SIZE]
    call('dataset_converters/make_digits.py', data, *number, '--one-digit')
    print('2/3 training ResNet-18 with CBAM, class names only', flush=True)
    right = train(data, work / 'classifier.pth', steps)
    print(f'  {right:.3f} of the validation images classified right')
    print('3/3 localizing digits it was never told the place of', flush=True)
    call(
        'localize.py',
        f'python:{Path(__file__).absolute()}:classifier',
        work / 'classifier.pth',
        *('--images', data / 'val', '--annotations', data / 'annotations/instances_val.json'),
        *(*MAPS, '--work-dir', work / 'result', '--workers', 0, '--device', 'cpu'),
    )
    summary = json.loads((work / 'result/summary.json').read_text())
    figures = {key: summary[key] for key in ('gt_known', 'top1_loc', 'top5_loc', 'top1_cls')}
    figures['centre_box'] = summary['baseline']['gt_known']
    write_json(Path(root) / 'summary.json', {'localization': figures}, merge=True)
    return summary


def call(tool, *options):
    """Runs another tool in its own process and shows what it says."""
    command = [sys.executable, str(TOOLS / tool), *map(str, options)]
    done = subprocess.run(command, check=False, env=child_environment())
    if done.returncode:
        raise RuntimeError(f'this step failed: {shlex.join(command)}')


def main(argv=None):
    """Runs the tool; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--work-dir', default='work_dirs/demo', help='(%(default)s)')
    parser.add_argument('--scenes', type=int, default=3000, help='to train on (%(default)s)')
    parser.add_argument('--val-scenes', type=int, default=300, help='to test on (%(default)s)')
    parser.add_argument('--steps', type=int, default=750, help='training steps (%(default)s)')
    args = parser.parse_args(argv)
    try:
        localization_demo(args.work_dir, args.scenes, args.val_scenes, args.steps)
    except (RuntimeError, ValueError, OSError) as error:
        print(f'demo_localization: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('\ndemo_localization: interrupted', file=sys.stderr)
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
