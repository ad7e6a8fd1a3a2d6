"""Time a config's network, beside another config's and beside itself with norms folded.

    python tools/latency.py CONFIG [--against CONFIG] [--fuse] [--shape H W] [--batch N]

Backbone and neck of a detector, all of a classifier, with random weights. The networks are
interleaved in one run, and a ratio is the median over the rounds: of a shared machine only that is
to be trusted, not the milliseconds. Ratios are to --against where it is given, else to CONFIG as
it is.
"""

import argparse
import copy
import sys
from pathlib import Path

import torch
from torch import nn

from mmattn.analysis.latency import build_model, measure_latency
from mmattn.cli.failures import end_run
from mmattn.core.devices import choose_device
from mmattn.deploy import fuse


def networks(args: argparse.Namespace) -> dict[str, nn.Module]:
    """Return every network of the table by its row's name, the one to compare with first."""
    found: dict[str, nn.Module] = {}
    for path in [args.against, args.config] if args.against else [args.config]:
        name = Path(path).stem
        name = name if name not in found else str(path)
        found[name] = build_model(path).to(args.device)
        if args.fuse:
            twin = copy.deepcopy(found[name])
            found[f'{name}, fused'] = fuse(twin, channels_last=True)
    return found


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='a config of mmdet or mmpretrain')
    parser.add_argument('--against', help='the config to compare with')
    parser.add_argument(
        '--fuse', action='store_true', help='also with norms folded, channels last'
    )
    parser.add_argument('--shape', type=int, nargs=2, default=[480, 640], metavar=('H', 'W'))
    parser.add_argument('--batch', type=int, default=1, help='images (%(default)s)')
    parser.add_argument('--repeats', type=int, default=11, help='counted rounds (%(default)s)')
    parser.add_argument('--threads', type=int, help="CPU threads (torch's own number)")
    parser.add_argument(
        '--device', default='cuda' if torch.cuda.is_available() else 'cpu', help='(%(default)s)'
    )
    args = parser.parse_args(argv)
    for name in ('batch', 'repeats', 'threads'):
        value = getattr(args, name)
        if value is not None and value < 1:
            parser.error(f'--{name} must be 1 or more, got {value}')
    if min(args.shape) < 32:
        parser.error(f'--shape must be two sides of at least 32, got {args.shape}')
    return args


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    args = parse_args(argv)
    try:
        if args.threads:
            torch.set_num_threads(args.threads)
        args.device = choose_device(args.device)
        models = networks(args)
        images = torch.randn(args.batch, 3, *args.shape, device=args.device)
        found = measure_latency(models, images, args.repeats)
    except (Exception, KeyboardInterrupt) as error:
        return end_run('latency', error)
    size = f'{args.batch} x 3 x {args.shape[0]} x {args.shape[1]}'
    print(f'{size}, {args.device}, {torch.get_num_threads()} threads, {args.repeats} rounds')
    width = max(map(len, found))
    print(f'{"network":{width}}  {"ms":>8}  {"ratio":>6}  {"memory":>6}')
    for name, one in found.items():
        print(f'{name:{width}}  {one.ms:8.1f}  {one.ratio:6.2f}  {one.memory:6.2f}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
