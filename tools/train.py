"""Train a detector, as mmdet's own tools/train.py does, with the data looked at first.

    python tools/train.py configs/aw_fpn/CONFIG.py
    python tools/train.py CONFIG.py --work-dir work_dirs/mine --resume

Wrong data, a misspelt setting or a checkpoint without a fitting key end in one sentence.
"""

import argparse
import os
import sys

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import RUNNERS
from mmengine.runner import Runner, find_latest_checkpoint

from mmattn.cli import command_line
from mmattn.core.checkpoint import LoadReportHook

SPLITS = ('train', 'val')


def parse_args(argv=None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='where logs and checkpoints go')
    parser.add_argument('--amp', action='store_true', help='automatic mixed precision')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate by batch size / auto_scale_lr.base_batch_size',
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='go on from this checkpoint; without a name, from the last one in the work dir',
    )
    command_line.add_shared_options(parser)
    args = parser.parse_args(argv)
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def apply_options(cfg: Config, args: argparse.Namespace) -> None:
    """Write --amp, --auto-scale-lr and --resume into the config."""
    if args.amp:
        if get_device() == 'cpu':
            raise ValueError('--amp needs a GPU, there is none here: leave it out')
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    if args.auto_scale_lr:
        if not (cfg.get('auto_scale_lr') or {}).get('base_batch_size'):
            raise ValueError(
                '--auto-scale-lr needs auto_scale_lr=dict(base_batch_size=...) in the config: the '
                'batch size (all processes together) that its learning rate is meant for'
            )
        cfg.auto_scale_lr.enable = True
    if args.resume:
        cfg.resume = True
        cfg.load_from = None if args.resume == 'auto' else args.resume
        if args.resume == 'auto' and not find_latest_checkpoint(cfg.work_dir):
            print(f'note: no checkpoint in {cfg.work_dir}, so this starts anew', file=sys.stderr)
    start = cfg.get('load_from')
    if start and '://' not in start and not os.path.isfile(start):
        raise FileNotFoundError(f'the checkpoint {start} does not exist')


def train(args: argparse.Namespace, known: dict) -> None:
    """Build the runner and train; ``known['cfg']`` receives the config."""
    cfg = command_line.load_config(
        args.config, args.cfg_options, args.launcher, args.work_dir, args.attention
    )
    known['cfg'] = cfg
    apply_options(cfg, args)
    if not args.skip_data_checks:
        command_line.check_and_report(cfg, SPLITS)
    command_line.start_processes(cfg)
    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    resumes = bool(cfg.get('resume'))
    runner.register_hook(
        LoadReportHook(
            partial=not resumes,
            way_out='To start from these weights instead, set load_from and leave out --resume.',
        )
    )
    runner.train()


def main(argv=None) -> int:
    """Run the tool; returns the exit code."""
    known: dict = {}
    args = parse_args(argv)
    return command_line.run('train', lambda: train(args, known), lambda: known.get('cfg'), SPLITS)


if __name__ == '__main__':
    sys.exit(main())
