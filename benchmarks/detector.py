"""Faster R-CNN with ResNet-50 and the necks of ``configs/aw_fpn``, beside the plain FPN.

Random weights, frozen stages and norms as the configs have them, drawn images with boxes.
A step is the losses and their backward pass.

    python benchmarks/detector.py [--batch 2] [--size 384 512] [--only aw-fpn] [--json FILE]
"""

from functools import partial
from pathlib import Path

import torch
from harness import interleave, machine, make_parser, peak_bytes, positive, ratio, save
from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs
from mmdet.utils import register_all_modules
from mmengine.config import Config
from torch import nn

CONFIGS = Path(__file__).absolute().parents[1] / 'configs' / 'aw_fpn'
NECKS = ('fpn', 'aw-fpn', 'se-fpn', 'cbam-fpn', 'aw-se-fpn', 'aw-cbam-fpn')
HEADER = ['neck', 'inference', 'step', 'memory of a step']


def build(neck: str) -> nn.Module:
    cfg = Config.fromfile(CONFIGS / f'faster-rcnn_r50_{neck}_1x_coco.py').model
    cfg.backbone.init_cfg = None
    return MODELS.build(cfg)


def infer(net: nn.Module, data: dict) -> None:
    net.eval()
    with torch.inference_mode():
        net.test_step(data)


def train_step(net: nn.Module, data: dict) -> None:
    net.train()
    net.zero_grad(set_to_none=True)
    losses = net(**net.data_preprocessor(data, True), mode='loss')
    net.parse_losses(losses)[0].backward()


def main() -> None:
    parser = make_parser(__doc__, repeats=5)
    parser.add_argument('--batch', type=positive, default=2)
    parser.add_argument('--size', type=positive, nargs=2, default=[384, 512], metavar=('H', 'W'))
    parser.add_argument('--only', nargs='+', choices=NECKS, default=NECKS, metavar='NECK')
    args = parser.parse_args()
    print(f'{machine(args)}, batch {args.batch}, {args.size[0]} x {args.size[1]}')
    register_all_modules()
    torch.manual_seed(0)
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    data = demo_mm_inputs(args.batch, [(3, *args.size)] * args.batch, num_items=[8] * args.batch)
    nets = {neck: build(neck).to(device) for neck in dict.fromkeys(['fpn', *args.only])}
    inference = interleave({n: partial(infer, net, data) for n, net in nets.items()}, args.repeats)
    steps = {n: partial(train_step, net, data) for n, net in nets.items()}
    training = interleave(steps, args.repeats)
    peak = {name: peak_bytes(step) for name, step in steps.items()}
    rows = [
        [n, ratio(inference, n, 'fpn'), ratio(training, n, 'fpn'), peak[n] / peak['fpn']]
        for n in nets
    ]
    title = f'Faster R-CNN, ResNet-50, batch {args.batch}, {args.size[0]} x {args.size[1]}'
    save(args, title, HEADER, rows)


if __name__ == '__main__':
    main()
