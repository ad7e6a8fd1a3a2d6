"""What ``tools/train.py`` and ``tools/test.py`` share: options, config, processes, failures."""

import argparse
import os
import sys
from pathlib import Path

import torch
from mmengine.config import Config, DictAction
from mmengine.logging import print_log

from mmattn.core.config import read_config
from mmattn.core.hosts import require_host
from mmattn.core.names import closest, did_you_mean
from mmattn.data.checks import check_data
from mmattn.insertion import add_attention, report, start_of

__all__ = [
    'add_shared_options',
    'check_and_report',
    'load_config',
    'parse_options',
    'start_processes',
]

# What mmengine's runner reads from a config, and what tools and hosts add to that.
_RUNNER_KEYS = {
    'model', 'work_dir', 'train_dataloader', 'val_dataloader', 'test_dataloader', 'train_cfg',
    'val_cfg', 'test_cfg', 'auto_scale_lr', 'optim_wrapper', 'param_scheduler', 'val_evaluator',
    'test_evaluator', 'default_hooks', 'custom_hooks', 'data_preprocessor', 'load_from', 'resume',
    'launcher', 'env_cfg', 'log_processor', 'log_level', 'visualizer', 'default_scope',
    'randomness', 'experiment_name', 'runner_type', 'custom_imports', 'model_wrapper_cfg',
    'find_unused_parameters', 'sync_bn', 'compile', 'activation_checkpointing',
    'efficient_conv_bn_eval', 'tta_model', 'tta_pipeline', 'vis_backends',
}  # fmt: skip


def add_shared_options(parser: argparse.ArgumentParser) -> None:
    """Add the options both tools have, under the names of the mm family."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        default={},
        metavar='KEY=VALUE',
        help='change settings of the config, e.g. train_dataloader.batch_size=4 randomness.seed=1;'
        ' a list is KEY="[a,b]" or KEY=a,b, without blanks',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='how several processes were started (dist_*.sh and slurm_*.sh set this)',
    )
    parser.add_argument(
        '--local-rank', '--local_rank', type=int, default=0, help=argparse.SUPPRESS
    )
    parser.add_argument(
        '--attention',
        nargs='+',
        metavar='METHOD',
        help='add these methods, each in its natural place, as tools/add_attention.py does (its '
        '--list prints them)',
    )
    parser.add_argument(
        '--trust',
        action='store_true',
        help='read checkpoints that hold more than weights, which may run any code of the file',
    )
    parser.add_argument(
        '--skip-data-checks', action='store_true', help='do not look at the data before the run'
    )


def load_config(
    path: str,
    options: dict,
    launcher: str,
    work_dir: str | None,
    attention: list[str] | None = None,
    checkpoint: str | None = None,
) -> Config:
    """Read a config and apply the command line to it.

    Args:
        path: The config file, or a name such as ``mmdet::retinanet/NAME.py``.
        options: What ``--cfg-options`` gave.
        launcher: What ``--launcher`` gave.
        work_dir: What ``--work-dir`` gave; without it the config's own, else
            ``work_dirs/NAME_OF_THE_CONFIG``, the methods of ``attention`` after the name.
        attention: What ``--attention`` gave: methods to add.
        checkpoint: The trained checkpoint that is loaded next, which shows how the methods
            started; without it the config decides.

    Returns:
        Config: The config to run.

    Raises:
        FileNotFoundError: There is no such file.
        ImportError: The framework it is written for is absent or does not import.
        ValueError: It is no config, an option sets something that nothing reads, or a method
            cannot stand in the network.
    """
    cfg = read_config(path)
    _check_options(cfg, options)
    cfg.merge_from_dict(options)
    if 'model' not in cfg:
        near = closest('model', cfg.keys(), 1)
        hint = f'; it has {near[0]!r}' if near else ''
        raise ValueError(f'config: {path} has no model{hint}')
    if cfg.get('default_scope') in ('mmdet', 'mmpretrain'):
        require_host(cfg.default_scope)
    name = Path(path).stem
    if attention:
        init = None if checkpoint is None else start_of(checkpoint)
        cfg = add_attention(cfg, attention, init=init)
        name = '_'.join((name, *attention)).replace('::', '-')
        if _is_first_process():
            print(report(cfg), flush=True)
    cfg.launcher = launcher
    if work_dir or not cfg.get('work_dir'):
        cfg.work_dir = work_dir or os.path.join('work_dirs', name)
    return cfg


def parse_options(pairs: list[str]) -> dict:
    """Read ``KEY=VALUE`` words as ``--cfg-options`` does."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, default={})
    return parser.parse_args(['--cfg-options', *pairs] if pairs else []).cfg_options


def _check_options(cfg: Config, options: dict) -> None:
    """Refuse an option with a misspelt first word: a setting that nothing reads."""
    known = set(cfg.keys()) | _RUNNER_KEYS
    for option in options:
        name = option.split('.')[0]
        if name not in known:
            hint = did_you_mean(name, known)
            raise ValueError(f'--cfg-options {option}: the config has no {name!r}{hint}')


def start_processes(cfg: Config) -> None:
    """Let several processes on a machine without a GPU find each other.

    mmengine starts the processes' group itself, but always asks for a GPU. Without one the group
    is started here, over gloo, and the wrapper is told to stay on the CPU.
    """
    from mmengine.device import get_device

    if cfg.launcher == 'none' or get_device() != 'cpu':
        return
    if any(part == 'SyncBN' for part in _strings(cfg.get('model'))):
        raise ValueError(
            "norm='SyncBN' (or norm_cfg type 'SyncBN') needs a GPU in every process: use 'BN' or "
            "'GN' on CPUs"
        )
    if cfg.launcher != 'pytorch':
        raise ValueError(
            f'--launcher {cfg.launcher} needs a GPU in every process; on CPUs use dist_train.sh '
            '(--launcher pytorch)'
        )
    torch.distributed.init_process_group('gloo')
    cfg.env_cfg.dist_cfg = dict(backend='gloo')
    wrapper = dict(
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
        **(cfg.get('model_wrapper_cfg') or {}),
    )
    cfg.model_wrapper_cfg = dict(wrapper, device_ids=None)
    print_log('No GPU: the processes run on the CPU and talk over gloo.', logger='current')


def check_and_report(cfg: Config, splits: tuple) -> None:
    """Check the data once, in the first process, and print what a person should know."""
    if _is_first_process():
        for note in check_data(cfg, splits):
            print(f'note: {note}', file=sys.stderr, flush=True)


def _is_first_process() -> bool:
    return all(os.environ.get(name, '0') == '0' for name in ('RANK', 'SLURM_PROCID'))


def _strings(cfg: object) -> list[str]:
    """Every text in a nested config."""
    if isinstance(cfg, dict):
        cfg = list(cfg.values())
    if isinstance(cfg, list | tuple):
        return [text for value in cfg for text in _strings(value)]
    return [cfg] if isinstance(cfg, str) else []
