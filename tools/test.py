"""Test a checkpoint, as mmdet's own tools/test.py does; one that does not fit is refused.

python tools/test.py configs/aw_fpn/CONFIG.py work_dirs/CONFIG/epoch_12.pth
"""

import argparse
import os
import sys

from mmattn.cli import command_line
from mmattn.cli.failures import end_run
from mmattn.cli.testing import SPLITS, check_checkpoint, evaluate
from mmattn.core.checkpoint import guarded_loading


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--work-dir', help='where the metrics go')
    parser.add_argument('--out', help='write the predictions to this pickle file (.pkl)')
    parser.add_argument('--show', action='store_true', help='show predictions in a window')
    parser.add_argument('--show-dir', help='save painted images here, below the work dir')
    parser.add_argument('--wait-time', type=float, default=2, help='seconds a window stays')
    parser.add_argument('--tta', action='store_true', help='average over the mirrored image')
    parser.add_argument(
        '--allow-partial',
        action='store_true',
        help='continue though keys of the checkpoint and of the config differ',
    )
    parser.add_argument(
        '--fuse', action='store_true', help='fold norms into convolutions first (faster)'
    )
    command_line.add_shared_options(parser)
    args = parser.parse_args(argv)
    if args.out and not args.out.endswith(('.pkl', '.pickle')):
        parser.error(f'--out must end in .pkl or .pickle, got {args.out}')
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    args = parse_args(argv)
    cfg = None
    try:
        with guarded_loading(args.trust):
            check_checkpoint(args.checkpoint)
            cfg = command_line.load_config(
                args.config,
                args.cfg_options,
                args.launcher,
                args.work_dir,
                args.attention,
                args.checkpoint,
            )
            evaluate(
                cfg,
                args.checkpoint,
                out=args.out,
                show=args.show,
                show_dir=args.show_dir,
                wait_time=args.wait_time,
                tta=args.tta,
                fuse=args.fuse,
                allow_partial=args.allow_partial,
                skip_data_checks=args.skip_data_checks,
            )
    except (Exception, KeyboardInterrupt) as error:
        return end_run('test', error, cfg, SPLITS)
    return 0


if __name__ == '__main__':
    sys.exit(main())
