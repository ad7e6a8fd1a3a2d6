"""Time and peak memory of an AW-convolution beside a plain one, layer by layer.

Shapes of ResNet-50 and FPN. "Naive" makes the scaled weights of every image in one
grouped convolution, as dynamic convolutions usually do. Figures are ratios to the plain layer;
a step is forward and backward.

    python benchmarks/aw_conv.py [--batch 8 32] [--repeats 9] [--threads 2] [--json FILE]
"""

from functools import partial

import torch
from harness import interleave, machine, make_parser, peak_bytes, positive, ratio, save
from torch import nn

from mmattn.convs import AWConv2d, aw_engine

# name: (in_channels, out_channels, kernel_size, stride, height, width)
SHAPES = {
    'R50 stage 1, 64 @ 56x56': (64, 64, 3, 1, 56, 56),
    'R50 stage 2, 128 @ 28x28': (128, 128, 3, 1, 28, 28),
    'R50 stage 3, 256 @ 14x14': (256, 256, 3, 1, 14, 14),
    'R50 stage 4, 512 @ 7x7': (512, 512, 3, 1, 7, 7),
    'R50 stage 4 entry, 512 @ 14x14 / 2': (512, 512, 3, 2, 14, 14),
    'FPN lateral, 512 @ 50x76': (512, 256, 1, 1, 50, 76),
    'FPN lateral, 2048 @ 13x19': (2048, 256, 1, 1, 13, 19),
    'FPN output, 256 @ 50x76': (256, 256, 3, 1, 50, 76),
    'FPN output, 256 @ 13x19': (256, 256, 3, 1, 13, 19),
}
HEADER = ['layer', 'batch', 'forward', 'step', 'naive step', 'memory', 'recompute', 'naive memory']


class NaiveConv2d(AWConv2d):
    """Takes the scaled weights of all images at once, whatever the shape."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        where = aw_engine.Where(self.stride, self.padding, self.dilation, self.groups)
        return aw_engine.per_sample(x, self.weight, self.attention(x), where)


def measure(shape: tuple, batch: int, repeats: int) -> list[float]:
    """Ratios to the plain layer, in the order of the header."""
    c1, c2, kernel_size, stride, height, width = shape
    options = dict(kernel_size=kernel_size, stride=stride, padding=kernel_size // 2, bias=False)
    layers = {
        'plain': nn.Conv2d(c1, c2, **options),
        'aw': AWConv2d(c1, c2, **options),
        'recompute': AWConv2d(c1, c2, **options, recompute=True),
        'naive': NaiveConv2d(c1, c2, **options),
    }
    x = torch.randn(batch, c1, height, width, requires_grad=True)
    forwards = {name: partial(forward, layers[name], x) for name in ('plain', 'aw')}
    steps = {name: partial(train_step, layer, x) for name, layer in layers.items()}
    forward_times, times = interleave(forwards, repeats), interleave(steps, repeats)
    peak = {name: peak_bytes(step) for name, step in steps.items()}
    return [
        ratio(forward_times, 'aw', 'plain'),
        *(ratio(times, name, 'plain') for name in ('aw', 'naive')),
        *(peak[name] / peak['plain'] for name in ('aw', 'recompute', 'naive')),
    ]


@torch.no_grad()
def forward(layer: nn.Module, x: torch.Tensor) -> None:
    layer(x)


def train_step(layer: nn.Module, x: torch.Tensor) -> None:
    out = layer(x)
    torch.autograd.grad(out, [x, *layer.parameters()], torch.ones_like(out))


def main() -> None:
    parser = make_parser(__doc__, repeats=9)
    parser.add_argument('--batch', type=positive, nargs='+', default=[8, 32], help='batch sizes')
    parser.add_argument('--only', help='part of the names of the layers to measure')
    args = parser.parse_args()
    print(machine(args))
    torch.manual_seed(0)
    rows = [
        [name, batch, *measure(shape, batch, args.repeats)]
        for name, shape in SHAPES.items()
        for batch in args.batch
        if (args.only or '') in name
    ]
    save(args, 'AW-convolution, a layer', HEADER, rows)


if __name__ == '__main__':
    main()
