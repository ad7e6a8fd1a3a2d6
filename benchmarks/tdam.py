"""Speed and peak memory of ResNet-50 with top-down attention and with gates, beside plain.

Throughput relative to mmdet's ResNet-50, as in the paper's table: 0.90 means 1.11 times the time.
The columns "paper" are the paper's, measured on GPUs. A step is forward and backward.

    python benchmarks/tdam.py [--batch 8] [--size 224] [--repeats 7] [--json FILE]
"""

from functools import partial

import torch
from harness import interleave, machine, make_parser, peak_bytes, positive, ratio, save
from resnet50 import infer, train_step
from torch import nn

from mmattn.backbones import AttentionResNet, TDResNet

HEADER = ['network', 'step', 'paper', 'inference', 'paper', 'memory of a step']
PAPER = {  # training, inference
    'SE': (0.87, 0.89),
    'CBAM': (0.60, 0.67),
    'TDjoint (t2, m1)': (0.85, 0.88),
    'TDtop (t2, m1)': (0.87, 0.89),
    'TDtop (t2, m3)': (0.71, 0.72),
}


def gated(kind: str) -> nn.Module:
    rule = dict(gate=dict(type=f'mmattn.{kind}', bias=False), position='after_conv3')
    return AttentionResNet(50, attention=[rule], frozen_stages=-1, norm_eval=False)


def top_down(preset: str) -> nn.Module:
    return TDResNet(preset=preset, frozen_stages=-1, norm_eval=False)


NETWORKS = {
    'plain': lambda: TDResNet(50, steps=1, frozen_stages=-1, norm_eval=False),
    'SE': lambda: gated('SE'),
    'CBAM': lambda: gated('CBAM'),
    'TDjoint (t2, m1)': lambda: top_down('r50-joint-t2m1'),
    'TDtop (t2, m1)': lambda: top_down('r50-top-t2m1'),
    'TDtop (t2, m3)': lambda: top_down('r50-top-t2m3'),
}


def main() -> None:
    parser = make_parser(__doc__, repeats=7)
    parser.add_argument('--batch', type=positive, default=8)
    parser.add_argument('--size', type=positive, default=224)
    args = parser.parse_args()
    print(f'{machine(args)}, batch {args.batch}, {args.size} x {args.size}\n')
    torch.manual_seed(0)
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    x = torch.randn(args.batch, 3, args.size, args.size, device=device)
    nets = {name: build().to(device) for name, build in NETWORKS.items()}
    steps = {name: partial(train_step, net, x) for name, net in nets.items()}
    training = interleave(steps, args.repeats)
    inference = interleave({n: partial(infer, net, x) for n, net in nets.items()}, args.repeats)
    peak = {name: peak_bytes(step) for name, step in steps.items()}
    rows = []
    for name in nets:
        paper = PAPER.get(name, ('', ''))
        speeds = [1 / ratio(times, name, 'plain') for times in (training, inference)]
        memory = peak[name] / peak['plain']
        rows.append([name, speeds[0], paper[0], speeds[1], paper[1], memory])
    save(args, f'TDAM, ResNet-50, batch {args.batch}, {args.size} x {args.size}', HEADER, rows)
    seconds = [min(times['plain']) for times in (training, inference)]
    rates = [f'{args.batch / each:.1f}' for each in seconds]
    print(f'\nplain: {" / ".join(rates)} images a second, {peak["plain"] / 2**20:.0f} MiB a step')


if __name__ == '__main__':
    main()
