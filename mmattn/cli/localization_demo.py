"""The localization half of the demo: a classifier of drawn scenes, trained without a box.

Draws scenes of one handwritten digit each, trains a narrow ResNet-18 with CBAM on the class names
alone, and localizes the digits of scenes it has never seen.
"""

import shlex
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from mmengine.logging import MMLogger
from torch import Tensor, nn

from mmattn.cli.run_log import write_json
from mmattn.core.progress import Progress
from mmattn.data.digits import make_digits
from mmattn.localization.annotations import load_annotations
from mmattn.localization.api import evaluate
from mmattn.localization.boxes import get_rule
from mmattn.localization.classifiers import load_classifier
from mmattn.localization.localizer import Settings
from mmattn.localization.results import RunInfo, RunPlan

__all__ = ['DigitClassifier', 'classifier', 'localize_digits', 'train']

SIZE, MEAN, STD = 32, 127.0, 64.0
BATCH = 32
CLASSES = ('zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine')
MODEL = f'python:{__name__}:classifier'  # what tools/localize.py takes
# A digit is three cells of the last map wide, and the map fades out over another cell on every
# side: at 15 % of the maximum all of that is inside the box. The training scenes say 50 %.
CAM, RULE = 'layercam', 'gradcam-0.50'


class DigitClassifier(nn.Module):
    """A narrow ResNet-18 with CBAM in every block; stride 4 to its end, so maps are fine.

    Shape: ``(N, 3, H, W) -> (N, 10)``.
    """

    def __init__(self) -> None:
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

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.backbone(x)[-1].mean((2, 3)))


def classifier(checkpoint: str | Path) -> tuple[nn.Module, dict[str, Any]]:
    """Return the trained network and its preprocessing, as ``tools/localize.py`` asks for them."""
    model = DigitClassifier()
    model.load_state_dict(torch.load(checkpoint, map_location='cpu', weights_only=True))
    channels = dict(mean=(MEAN,) * 3, std=(STD,) * 3)
    return model, dict(input_size=(SIZE, SIZE), classes=CLASSES, **channels)


def read_split(folder: str | Path) -> tuple[Tensor, Tensor]:
    """Read a folder of class folders: images ``(N, 3, H, W)`` uint8 and labels ``(N,)``."""
    files = sorted(Path(folder).rglob('*.jpg'))
    images = np.stack([cv2.imread(str(f))[..., ::-1] for f in files])
    labels = torch.tensor([CLASSES.index(f.parent.name) for f in files])
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), labels


def shifted(images: Tensor, most: int = 3) -> Tensor:
    """Normalize a batch and move it by a few pixels, for training."""
    x = F.pad((images.float() - MEAN) / STD, (most,) * 4, mode='reflect')
    dy, dx = torch.randint(0, 2 * most + 1, (2,)).tolist()
    return x[..., dy : dy + images.shape[2], dx : dx + images.shape[3]]


def train(data: Path, checkpoint: Path, steps: int, lr: float = 8e-3) -> float:
    """Train on the training split, printing the progress, and save the weights.

    Args:
        data: The scenes, as :func:`~mmattn.data.digits.make_digits` writes them.
        checkpoint: File to write.
        steps: Training steps.
        lr: Highest learning rate.

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
    with Progress('train', steps, every=5.0) as progress:
        for step, chosen in enumerate(order[: steps * BATCH].view(steps, BATCH), 1):
            loss = F.cross_entropy(model(shifted(images[chosen])), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            progress.update(step, f'loss {loss.item():.3f}')
    torch.save(model.state_dict(), checkpoint)
    return accuracy(model, *read_split(data / 'val'))


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Return the fraction of images classified right."""
    model.eval()
    scores = torch.cat([model((part.float() - MEAN) / STD) for part in images.split(100)])
    return float((scores.argmax(1) == labels).float().mean())


def localize_digits(
    root: str | Path, scenes: int = 3000, val_scenes: int = 300, steps: int = 750
) -> dict[str, Any]:
    """Draw, train, localize, report, printing the progress.

    Args:
        root: Folder of the demo; everything goes into ``root/localization``, the figures also
            into ``root/summary.json``.
        scenes: Scenes to train on.
        val_scenes: Scenes to localize.
        steps: Training steps.

    Returns:
        The summary of the localization.

    Raises:
        ValueError: No step, or a number of scenes that cannot be drawn.
    """
    if steps < 1:
        raise ValueError(f'steps must be at least 1, got {steps}')
    work, data = Path(root) / 'localization', Path(root) / 'one_digit'
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    print(f'1/3 scenes of one digit each -> {data}', flush=True)
    make_digits(data, scenes, val_scenes, SIZE, one_digit=True, report=print)
    print('2/3 training ResNet-18 with CBAM, class names only', flush=True)
    right = train(data, work / 'classifier.pth', steps)
    print(f'  {right:.3f} of the validation images classified right')
    print('3/3 localizing digits it was never told the place of', flush=True)
    summary = _localize(work, data)
    figures = {key: summary[key] for key in ('gt_known', 'top1_loc', 'top5_loc', 'top1_cls')}
    figures['centre_box'] = summary['baseline']['gt_known']
    write_json(Path(root) / 'summary.json', {'localization': figures}, merge=True)
    return summary


def _localize(work: Path, data: Path) -> dict[str, Any]:
    """Do what ``tools/localize.py`` does; the report shows that command."""
    MMLogger.get_instance('localization')  # from here on its lines are shown
    checkpoint, truth, out = (
        str(path)
        for path in (
            work / 'classifier.pth',
            data / 'annotations' / 'instances_val.json',
            work / 'result',
        )
    )
    options = ['--images', str(data / 'val'), '--annotations', truth, '--cam', CAM, '--rule', RULE]
    words = ['tools/localize.py', MODEL, checkpoint, *options, '--work-dir', out]
    info = RunInfo(truth, checkpoint, command=shlex.join(['python', *words]))
    network = load_classifier(MODEL, checkpoint)
    annotations = load_annotations(truth, data / 'val', num_classes=len(CLASSES), classes=CLASSES)
    settings = Settings(cam=CAM, rule=get_rule(RULE))
    return evaluate(network, annotations, RunPlan(settings, out, workers=0, info=info))
