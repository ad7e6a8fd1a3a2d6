"""Time and peak memory of AWConv2d beside a plain convolution, on ResNet-50 and FPN shapes.

Both run interleaved in one process; the figures are medians and the ratio is AW / plain. The
memory figure is the peak of the tensors alive during the call, as torch's profiler counts them.

    python benchmarks/aw_conv.py [--batch 1 2 8] [--repeats 9] [--threads 2] [--json FILE]
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from mmattn.convs import AWConv2d

# name: (in_channels, out_channels, kernel_size, stride, height, width)
SHAPES = {
    'R50 stage 1, 64 @ 56x56': (64, 64, 3, 1, 56, 56),
    'R50 stage 2, 128 @ 28x28': (128, 128, 3, 1, 28, 28),
    'R50 stage 3, 256 @ 14x14': (256, 256, 3, 1, 14, 14),
    'R50 stage 4, 512 @ 7x7': (512, 512, 3, 1, 7, 7),
    'R50 stage 4 entry, 512 @ 14x14 / 2': (512, 512, 3, 2, 14, 14),
    'FPN lateral, 256 @ 100x152': (256, 256, 1, 1, 100, 152),
    'FPN lateral, 1024 @ 25x38': (1024, 256, 1, 1, 25, 38),
    'FPN lateral, 2048 @ 13x19': (2048, 256, 1, 1, 13, 19),
    'FPN output, 256 @ 50x76': (256, 256, 3, 1, 50, 76),
    'FPN output, 256 @ 13x19': (256, 256, 3, 1, 13, 19),
}


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    print(f'torch {torch.__version__}, {args.threads} threads, medians of {args.repeats}')
    header = ('shape', 'batch', 'forward', 'step', 'plain ms', 'memory', 'plain MiB')
    print('| ' + ' | '.join(header) + ' |')
    print('|' + '---|' * len(header))
    rows = []
    for name, shape in SHAPES.items():
        for batch in args.batch:
            row = measure(shape, batch, args.repeats)
            rows.append({'shape': name, 'batch': batch, **row})
            print(
                f'| {name} | {batch} | {row["forward"]:.2f}x | {row["step"]:.2f}x '
                f'| {row["plain_step_ms"]:.1f} | {row["memory"]:.2f}x '
                f'| {row["plain_mib"]:.1f} |',
                flush=True,
            )
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(rows, indent=2))


def measure(shape: tuple, batch: int, repeats: int) -> dict:
    """Ratios AW / plain of forward time, step time and peak memory for one layer."""
    c1, c2, kernel_size, stride, height, width = shape
    options = dict(kernel_size=kernel_size, stride=stride, padding=kernel_size // 2, bias=False)
    # one picture and a 1x1 kernel leave nothing to normalise
    norm = 'GN' if batch == 1 and kernel_size == 1 else 'BN'
    layers = {'aw': AWConv2d(c1, c2, norm=norm, **options), 'plain': nn.Conv2d(c1, c2, **options)}
    x = torch.randn(batch, c1, height, width, requires_grad=True)
    times = {(kind, name): [] for kind in ('forward', 'step') for name in layers}
    for repeat in range(repeats + 1):
        for name, layer in layers.items():
            with torch.no_grad():
                forward = timed(layer, x)
            step = timed(train_step, layer, x)
            if repeat:  # the first round warms up
                times['forward', name].append(forward)
                times['step', name].append(step)
    median = {key: statistics.median(values) for key, values in times.items()}
    peak = {name: peak_bytes(layer, x) for name, layer in layers.items()}
    return {
        'forward': median['forward', 'aw'] / median['forward', 'plain'],
        'step': median['step', 'aw'] / median['step', 'plain'],
        'plain_step_ms': median['step', 'plain'] * 1e3,
        'memory': peak['aw'] / peak['plain'],
        'plain_mib': peak['plain'] / 2**20,
    }


def train_step(layer: nn.Module, x: torch.Tensor) -> None:
    layer.zero_grad(set_to_none=True)
    x.grad = None
    layer(x).sum().backward()


def timed(function, *args) -> float:
    start = time.perf_counter()
    function(*args)
    return time.perf_counter() - start


def peak_bytes(layer: nn.Module, x: torch.Tensor) -> int:
    """Largest sum of live allocations during one training step."""
    train_step(layer, x)
    layer.zero_grad(set_to_none=True)
    x.grad = None
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        layer(x).sum().backward()
    alive = peak = 0
    for event in record.profiler.kineto_results.events():
        if event.name() == '[memory]':
            alive += event.nbytes()
            peak = max(peak, alive)
    return peak


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--batch', type=int, nargs='+', default=[1, 2, 8], help='batch sizes')
    parser.add_argument('--repeats', type=int, default=9, help='counted runs of each layer')
    parser.add_argument('--threads', type=int, default=2, help='CPU threads')
    parser.add_argument('--json', type=Path, help='also write the rows to this file')
    return parser.parse_args()


if __name__ == '__main__':
    main()
