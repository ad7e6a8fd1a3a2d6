"""Time and peak memory of ResNet-50 with every method, beside the plain network.

The backbones of ``configs/attention_resnet`` and the forms an AW-convolution can take; figures
are ratios to mmdet's ResNet-50 in the same run. A step is forward and backward.

    python benchmarks/resnet50.py [--batch 8] [--size 224] [--only aw se cbam] [--json FILE]
"""

from functools import partial
from pathlib import Path

import torch
from aw_conv import NaiveConv2d
from harness import interleave, machine, make_parser, peak_bytes, positive, ratio, save
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from mmengine.config import Config
from torch import nn

from mmattn.convs import AWConv2d
from mmattn.deploy import fuse

CONFIGS = Path(__file__).absolute().parents[1] / 'configs' / 'attention_resnet'
HEADER = ['network', 'inference', 'step', 'memory of a step']
TRAINED_ONLY, INFERRED_ONLY = ('aw, recompute',), ('aw, fused', 'plain, fused')


def config_names() -> dict[str, Path]:
    """``{'se': path, ...}`` for ``faster-rcnn_r50-se_fpn_1x_coco.py``."""
    return {path.name.split('_')[1].removeprefix('r50-'): path for path in CONFIGS.glob('*.py')}


def build(name: str) -> nn.Module:
    """Return a network by its row's name, trained from random weights with all stages learning."""
    kind, _, form = name.partition(', ')
    backbone = Config.fromfile(config_names()['aw' if kind == 'plain' else kind]).model.backbone
    backbone.update(init_cfg=None, frozen_stages=-1, norm_eval=False)
    if kind == 'plain':
        backbone.pop('conv2')
    if form == 'recompute':
        backbone.conv2.recompute = True
    net = MODELS.build(backbone)
    if form == 'naive':
        for module in net.modules():
            if type(module) is AWConv2d:
                module.__class__ = NaiveConv2d
    return fuse(net, channels_last=True) if form == 'fused' else net


def infer(net: nn.Module, x: torch.Tensor) -> None:
    net.eval()
    with torch.inference_mode():
        net(x)


def train_step(net: nn.Module, x: torch.Tensor) -> None:
    net.train()
    net.zero_grad(set_to_none=True)
    net(x)[-1].mean().backward()


def main() -> None:
    names = ['plain', 'aw', *TRAINED_ONLY, 'aw, naive', *INFERRED_ONLY]
    names += sorted(config_names().keys() - {'aw'})
    parser = make_parser(__doc__, repeats=5)
    parser.add_argument('--batch', type=positive, default=8)
    parser.add_argument('--size', type=positive, default=224)
    parser.add_argument('--only', nargs='+', choices=names, default=names, metavar='ROW')
    args = parser.parse_args()
    print(f'{machine(args)}, batch {args.batch}, {args.size} x {args.size}')
    register_all_modules()
    torch.manual_seed(0)
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    x = torch.randn(args.batch, 3, args.size, args.size, device=device)
    chosen = dict.fromkeys(['plain', *args.only])
    nets = {name: build(name).to(device) for name in chosen}
    forwards = {n: partial(infer, net, x) for n, net in nets.items() if n not in TRAINED_ONLY}
    steps = {n: partial(train_step, net, x) for n, net in nets.items() if n not in INFERRED_ONLY}
    inference, training = interleave(forwards, args.repeats), interleave(steps, args.repeats)
    peak = {name: peak_bytes(step) for name, step in steps.items()}
    rows = [
        [
            name,
            ratio(inference, name, 'plain') if name in forwards else '-',
            ratio(training, name, 'plain') if name in steps else '-',
            peak[name] / peak['plain'] if name in steps else '-',
        ]
        for name in nets
    ]
    title = f'ResNet-50, batch {args.batch}, {args.size} x {args.size}'
    save(args, title, HEADER, rows)
    mib = f'{peak["plain"] / 2**20:.0f} MiB' if 'plain' in peak else ''
    times = [f'{min(t["plain"]) * 1e3:.0f} ms' for t in (inference, training)]
    print(f'\nplain: {times[0]} inference, {times[1]} and {mib} a step')


if __name__ == '__main__':
    main()
