"""Train a classifier on one-digit scenes, class names only, and let it localize the digits.

    python tools/demo_localization.py

The second half of ``make demo``: draws the scenes, trains a small ResNet-18 with CBAM (about 2
minutes on 2 cores), runs tools/localize.py on scenes it has never seen, and ends with the table
and the report's path. No box is used in training. Everything lies in work_dirs/demo/localization.
"""

import argparse
import json
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from mmengine.logging import MMLogger
from torch import nn

TOOLS = Path(__file__).absolute().parent
SIZE, MEAN, STD = 48, 127.0, 64.0
WIDTH = 12
CLASSES = ('zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine')
RULE = 'gradcam-0.30'


class DigitClassifier(nn.Module):
    """A narrow ResNet-18 with CBAM in every block; stride 4 to its end, so maps are fine."""

    def __init__(self):
        from mmattn.backbones.attention_resnet import AttentionResNet

        super().__init__()
        self.backbone = AttentionResNet(
            18,
            base_channels=WIDTH,
            strides=(1, 1, 1, 1),
            out_indices=(3,),
            frozen_stages=-1,
            norm_eval=False,
            zero_init_residual=False,
            init_cfg=None,
            attention=[dict(gate=dict(type='mmattn.CBAM'), position='after_conv2')],
        )
        self.fc = nn.Linear(8 * WIDTH, len(CLASSES))

    def forward(self, x):
        return self.fc(self.backbone(x)[-1].mean((2, 3)))


def classifier(checkpoint):
    """What ``tools/localize.py python:tools/demo_localization.py:classifier`` asks for."""
    model = DigitClassifier()
    model.load_state_dict(torch.load(checkpoint, map_location='cpu', weights_only=True))
    channels = dict(mean=(MEAN,) * 3, std=(STD,) * 3)
    return model, dict(input_size=(SIZE, SIZE), classes=CLASSES, **channels)


def read_split(folder):
    """Reads a folder of class folders: pictures (N, 3, H, W) uint8 and labels (N,)."""
    files = sorted(Path(folder).rglob('*.jpg'))
    pictures = np.stack([cv2.imread(str(f))[..., ::-1] for f in files])
    labels = torch.tensor([CLASSES.index(f.parent.name) for f in files])
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous(), labels


def shifted(pictures, most=5):
    """Normalizes a batch and moves it by a few pixels, for training."""
    x = F.pad((pictures.float() - MEAN) / STD, (most,) * 4, mode='reflect')
    dy, dx = torch.randint(0, 2 * most + 1, (2,)).tolist()
    return x[..., dy : dy + pictures.shape[2], dx : dx + pictures.shape[3]]


def train(data, checkpoint, epochs, batch=32, lr=3e-3):
    """Trains on the training split and saves the weights.

    Returns:
        Fraction of the validation scenes that are classified right.
    """
    torch.manual_seed(0)
    MMLogger.get_instance('demo', log_level='ERROR')  # mmengine lists every layer it initializes
    pictures, labels = read_split(data / 'train')
    model = DigitClassifier()
    model.backbone.init_weights()
    steps = len(pictures) // batch
    if steps == 0:
        raise ValueError(f'scenes must be at least {batch}, got {len(pictures)}')
    optimizer = torch.optim.AdamW(model.parameters(), lr, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, epochs * steps)
    start = time.monotonic()
    for epoch in range(epochs):
        model.train()
        total = 0.0
        for chosen in torch.randperm(len(pictures))[: steps * batch].view(-1, batch):
            scores = model(shifted(pictures[chosen]))
            loss = F.cross_entropy(scores, labels[chosen], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += float(loss)
        left = (time.monotonic() - start) / (epoch + 1) * (epochs - epoch - 1)
        print(
            f'  epoch {epoch + 1}/{epochs}  loss {total / steps:.3f}  {left:.0f} s left',
            flush=True,
        )
    torch.save(model.state_dict(), checkpoint)
    return accuracy(model, *read_split(data / 'val'))


@torch.no_grad()
def accuracy(model, pictures, labels):
    """Fraction of pictures classified right."""
    model.eval()
    scores = torch.cat([model((part.float() - MEAN) / STD) for part in pictures.split(100)])
    return float((scores.argmax(1) == labels).float().mean())


def localization_demo(root, scenes=3000, val_scenes=300, epochs=10):
    """Draws, trains, localizes, reports.

    Args:
        root: Folder of the demo; everything goes into ``root/localization``.
        scenes: Scenes to train on.
        val_scenes: Scenes to localize.
        epochs: Passes over the training scenes.

    Returns:
        The summary of tools/localize.py.

    Raises:
        RuntimeError: A step failed; its own words were shown.
    """
    root = Path(root)
    work, data = root / 'localization', root / 'one_digit'
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    print(f'1/3 scenes of one digit each -> {data}', flush=True)
    number = ['--train', scenes, '--val', val_scenes, '--size', SIZE]
    call('dataset_converters/make_digits.py', data, *number, '--one-digit')
    print('2/3 training ResNet-18 with CBAM, class names only', flush=True)
    right = train(data, work / 'classifier.pth', epochs)
    print(f'  {right:.3f} of the validation scenes classified right')
    print('3/3 localizing digits it was never told the place of', flush=True)
    call(
        'localize.py',
        f'python:{Path(__file__).absolute()}:classifier',
        work / 'classifier.pth',
        *('--images', data / 'val', '--annotations', data / 'annotations/instances_val.json'),
        *('--rule', RULE, '--work-dir', work / 'result', '--workers', 0, '--device', 'cpu'),
    )
    return json.loads((work / 'result/summary.json').read_text())


def call(tool, *options):
    """Runs another tool in its own process and shows what it says."""
    command = [sys.executable, str(TOOLS / tool), *map(str, options)]
    done = subprocess.run(command, check=False)
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
    parser.add_argument('--epochs', type=int, default=10, help='(%(default)s)')
    args = parser.parse_args(argv)
    try:
        localization_demo(args.work_dir, args.scenes, args.val_scenes, args.epochs)
    except (RuntimeError, ValueError, OSError) as error:
        print(f'demo_localization: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('\ndemo_localization: interrupted', file=sys.stderr)
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
