"""Write a trained network as ONNX and TorchScript, and check the files against PyTorch.

    python tools/export.py CONFIG CHECKPOINT [--out-dir DIR] [--kinds onnx dynamo torchscript]

Of a detector the backbone and the neck, of a classifier all of it; batch, height and width stay
free. Every file is run (ONNX in onnxruntime) at two sizes and batches beside the network, and the
largest difference is printed; above --tolerance the exit code is 1.
"""

import argparse
import sys
from pathlib import Path

from mmattn.analysis.loading import load_model
from mmattn.cli.failures import end_run
from mmattn.core.checkpoint import guarded_loading
from mmattn.deploy import KINDS, ExportedPart, difference, export, fuse


def write_and_check(args: argparse.Namespace) -> int:
    """Return the exit code: 1 where a file's outputs differ too much."""
    model, cfg, _ = load_model(args.config, args.checkpoint)
    largest = max(side for shape in args.shape for side in shape)
    part = ExportedPart(fuse(model) if args.fuse else model, largest)
    stem = Path(args.config).stem
    files = export(part, args.out_dir, stem, args.kinds, size=largest)
    what = 'whole network' if part.whole else 'backbone and neck'
    print(f'{what}: images (N, 3, H, W) -> {", ".join(part.names)}')
    normalise = cfg.get('data_preprocessor') or cfg.model.get('data_preprocessor') or {}
    print(
        f'images are normalised before: mean {normalise.get("mean")}, std {normalise.get("std")}, '
        f'{"RGB" if normalise.get("bgr_to_rgb") or normalise.get("to_rgb") else "BGR"}'
    )
    worst = 0.0
    for kind, file in files.items():
        gap = difference(part, file, args.shape)
        worst = max(worst, gap)
        size = file.stat().st_size / 2**20
        print(f'{file}  {size:.1f} MiB  largest difference {gap:.1e} ({KINDS[kind][1]})')
    if worst > args.tolerance:
        print(f'export: a difference is above {args.tolerance}', file=sys.stderr)
        return 1
    return 0


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='a config of mmdet or mmpretrain')
    parser.add_argument('checkpoint')
    parser.add_argument('--out-dir', type=Path, default=Path('work_dirs/export'))
    parser.add_argument(
        '--kinds',
        nargs='+',
        choices=tuple(KINDS),
        default=list(KINDS),
        help='what to write (all): ' + '; '.join(f'{k}: {how}' for k, (_, how) in KINDS.items()),
    )
    parser.add_argument(
        '--shape',
        type=int,
        nargs=2,
        action='append',
        metavar=('H', 'W'),
        help='a size to check at, twice (224 224 and 256 320); the largest side is that of the '
        'images the files are made with',
    )
    parser.add_argument('--fuse', action='store_true', help='fold norms into convolutions first')
    parser.add_argument(
        '--tolerance',
        type=float,
        default=1e-3,
        help='largest difference over the largest value of an output (%(default)s)',
    )
    parser.add_argument(
        '--trust', action='store_true', help='read checkpoints that hold more than weights'
    )
    args = parser.parse_args(argv)
    args.shape = args.shape or [[224, 224], [256, 320]]
    if min(side for shape in args.shape for side in shape) < 32:
        parser.error(f'--shape must be two sides of at least 32, got {args.shape}')
    return args


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    args = parse_args(argv)
    try:
        with guarded_loading(args.trust):
            return write_and_check(args)
    except (Exception, KeyboardInterrupt) as error:
        return end_run('export', error)


if __name__ == '__main__':
    sys.exit(main())
