"""Speed and peak memory of ResNet-50 with attention, as ratios to the plain network in one run.

All networks run interleaved in one process; the figures are medians, throughput relative to
plain (the paper's table: 0.85 / 0.88 training / inference for TDjoint t2 m1, 0.87 / 0.89 for
TDtop t2 m1, 0.71 / 0.72 for TDtop t2 m3, on GPUs). Memory is the peak of the tensors alive during
the training step: on a GPU as its allocator counts them, on a CPU as torch's profiler does.

    python benchmarks/tdam.py [--batch 8] [--size 224] [--repeats 7] [--device cuda] [--json FILE]
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from mmattn.backbones import AttentionResNet, TDResNet

PAPER = {  # training, inference
    'SE': (0.87, 0.89),
    'CBAM': (0.60, 0.67),
    'TDjoint (t2, m1)': (0.85, 0.88),
    'TDtop (t2, m1)': (0.87, 0.89),
    'TDtop (t2, m3)': (0.71, 0.72),
}


def gated(kind: str) -> nn.Module:
    rule = dict(gate=dict(type=f'mmattn.{kind}', bias=False), position='after_conv3')
    return AttentionResNet(50, attention=[rule], norm_eval=False)


NETWORKS = {
    'plain': lambda: TDResNet(50, steps=1, norm_eval=False),
    'SE': lambda: gated('SE'),
    'CBAM': lambda: gated('CBAM'),
    'TDjoint (t2, m1)': lambda: TDResNet(preset='r50-joint-t2m1', norm_eval=False),
    'TDtop (t2, m1)': lambda: TDResNet(preset='r50-top-t2m1', norm_eval=False),
    'TDtop (t2, m3)': lambda: TDResNet(preset='r50-top-t2m3', norm_eval=False),
}


def train_step(net: nn.Module, x: torch.Tensor) -> None:
    net.train()
    net.zero_grad(set_to_none=True)
    net(x)[-1].mean().backward()


def infer(net: nn.Module, x: torch.Tensor) -> None:
    net.eval()
    with torch.inference_mode():
        net(x)


def timed(function, *args) -> float:
    device = args[1].device
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    function(*args)
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def peak_bytes(net: nn.Module, x: torch.Tensor) -> int:
    """Peak of what a training step allocates beyond the weights."""
    if x.device.type == 'cuda':
        net.zero_grad(set_to_none=True)
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        train_step(net, x)
        torch.cuda.synchronize()
        peak = torch.cuda.max_memory_allocated() - before
        net.zero_grad(set_to_none=True)
        return peak
    train_step(net, x)
    net.zero_grad(set_to_none=True)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        train_step(net, x)
    net.zero_grad(set_to_none=True)
    alive = peak = 0
    for event in record.profiler.kineto_results.events():
        if event.name() == '[memory]':
            alive += event.nbytes()
            peak = max(peak, alive)
    return peak


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    device = torch.device(args.device)
    nets = {name: build().to(device) for name, build in NETWORKS.items()}
    x = torch.randn(args.batch, 3, args.size, args.size, device=device)
    times = {name: {'train': [], 'infer': []} for name in nets}
    for repeat in range(args.repeats + 1):
        for name, net in nets.items():
            train, inference = timed(train_step, net, x), timed(infer, net, x)
            if repeat:  # the first round warms up
                times[name]['train'].append(train)
                times[name]['infer'].append(inference)
    median = {n: {k: statistics.median(v) for k, v in t.items()} for n, t in times.items()}
    memory = {name: peak_bytes(net, x) for name, net in nets.items()}

    print(f'torch {torch.__version__}, {device}, batch {args.batch}, {args.size} x {args.size}, ')
    print(f'{args.threads} threads, medians of {args.repeats}\n')
    print('| network | training | paper | inference | paper | memory | plain |')
    print('|---|---|---|---|---|---|---|')
    rows = []
    for name in nets:
        speed = {k: median['plain'][k] / median[name][k] for k in ('train', 'infer')}
        ratio = memory[name] / max(memory['plain'], 1)
        paper = PAPER.get(name, ('', ''))
        plain = ''
        if name == 'plain':
            seconds = median[name]
            plain = f'{args.batch / seconds["train"]:.1f} / {args.batch / seconds["infer"]:.1f} '
            plain += f'pictures a second, {memory[name] / 2**20:.0f} MiB'
        print(
            f'| {name} | {speed["train"]:.2f} | {paper[0]} | {speed["infer"]:.2f} | {paper[1]} '
            f'| {ratio:.2f}x | {plain} |'
        )
        rows.append(dict(name=name, **speed, memory=ratio, seconds=median[name]))
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(rows, indent=2) + '\n')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--batch', type=int, default=8)
    parser.add_argument('--size', type=int, default=224)
    parser.add_argument('--repeats', type=int, default=7)
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--json', type=Path, help='write the rows to this file as well')
    return parser.parse_args()


if __name__ == '__main__':
    main()
