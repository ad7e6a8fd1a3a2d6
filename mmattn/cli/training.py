"""Train what a config says: what ``tools/train.py`` does."""

import os
import sys

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from mmattn.cli.command_line import check_and_report, start_processes
from mmattn.core.checkpoint import (
    LoadReportHook,
    SafeCheckpointHook,
    newest_checkpoint,
    register_once,
)
from mmattn.core.finite import InvalidLossHook
from mmattn.insertion import unread_gates

__all__ = ['SPLITS', 'apply_options', 'build_runner', 'check_gates', 'find_start', 'train']

SPLITS = ('train', 'val')


def train(
    cfg: Config,
    amp: bool = False,
    auto_scale_lr: bool = False,
    resume: str | None = None,
    skip_data_checks: bool = False,
) -> Runner:
    """Train, with the data and the checkpoints looked at first.

    Args:
        cfg: The config, from :func:`mmattn.cli.command_line.load_config`.
        amp: Automatic mixed precision.
        auto_scale_lr: Scale the learning rate by batch size / ``auto_scale_lr.base_batch_size``.
        resume: A checkpoint or a work dir to resume from; ``'auto'``: the config's work dir.
        skip_data_checks: Do not look at the data.

    Returns:
        The runner, at its end.

    Raises:
        ValueError: An option, the data or a checkpoint cannot be used.
        FileNotFoundError: A checkpoint does not exist.
        FloatingPointError: The loss or a weight became NaN or infinite.
    """
    apply_options(cfg, amp, auto_scale_lr)
    find_start(cfg, resume)
    check_gates(cfg)
    if not skip_data_checks:
        check_and_report(cfg, SPLITS)
    start_processes(cfg)
    runner = build_runner(cfg)
    way_out = 'To start from these weights instead, set load_from and leave out --resume.'
    resumes = bool(cfg.get('resume'))
    register_once(runner, LoadReportHook(partial=not resumes, way_out=way_out))
    register_once(runner, SafeCheckpointHook())
    register_once(runner, InvalidLossHook())
    runner.train()
    return runner


def check_gates(cfg: Config) -> None:
    """Note gates that get no gradient; refuse them where several processes would stop at them.

    Raises:
        ValueError: There are such gates and several processes, without ``find_unused_parameters``.
    """
    stops = cfg.get('launcher', 'none') != 'none' and not cfg.get('find_unused_parameters')
    for problem in unread_gates(cfg):
        if stops:
            raise ValueError(problem)
        print(f'note: {problem}', file=sys.stderr)


def build_runner(cfg: Config) -> Runner:
    """Return the runner of a config."""
    return RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)


def apply_options(cfg: Config, amp: bool, auto_scale_lr: bool) -> None:
    """Write ``--amp`` and ``--auto-scale-lr`` into the config.

    Raises:
        ValueError: There is no GPU, or no batch size that the learning rate is meant for.
    """
    if amp:
        if get_device() == 'cpu':
            raise ValueError('--amp needs a GPU, there is none here: leave it out')
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    if auto_scale_lr:
        if not (cfg.get('auto_scale_lr') or {}).get('base_batch_size'):
            raise ValueError(
                '--auto-scale-lr needs auto_scale_lr=dict(base_batch_size=...) in the config: the '
                'batch size (all processes together) that its learning rate is meant for'
            )
        cfg.auto_scale_lr.enable = True


def find_start(cfg: Config, resume: str | None) -> None:
    """Write into the config what the training starts from.

    Args:
        cfg: The config; its ``load_from`` and ``resume`` are set.
        resume: As for :func:`train`.

    Raises:
        FileNotFoundError: The checkpoint does not exist, or the folder has none.
    """
    if resume == 'auto' or (resume is None and cfg.get('resume') and not cfg.get('load_from')):
        start = newest_checkpoint(cfg.work_dir)
        if start is None:
            print(
                f'note: no checkpoint in {cfg.work_dir}, so this starts from scratch',
                file=sys.stderr,
            )
        else:
            print(f'note: resuming from {start}', file=sys.stderr)
        cfg.resume = start is not None
        cfg.load_from = start or (None if resume else cfg.get('load_from'))
    elif resume:
        start = newest_checkpoint(resume) if os.path.isdir(resume) else resume
        if start is None:
            raise FileNotFoundError(f'--resume: no whole checkpoint in {resume}')
        cfg.resume, cfg.load_from = True, start
    start = cfg.get('load_from')
    if start and '://' not in start and not os.path.isfile(start):
        raise FileNotFoundError(f'the checkpoint {start} does not exist')
