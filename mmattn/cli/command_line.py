"""What ``tools/train.py`` and ``tools/test.py`` share: options, config, processes, failures."""

import argparse
import inspect
import os
import re
import sys
import traceback
from pathlib import Path

from mmengine.config import Config, DictAction
from mmengine.logging import print_log

from mmattn.core.names import closest, did_you_mean
from mmattn.data.checks import (
    broken_image_sentence,
    check_data,
    find_broken_images,
    image_paths,
)
from mmattn.insertion import add_attention, read_config, report, start_of

__all__ = [
    'add_shared_options',
    'check_and_report',
    'load_config',
    'parse_options',
    'run',
    'start_processes',
]

# What mmengine's runner reads from a config, and what tools and hosts add to that.
_RUNNER_KEYS = {
    'model', 'work_dir', 'train_dataloader', 'val_dataloader', 'test_dataloader', 'train_cfg',
    'val_cfg', 'test_cfg', 'auto_scale_lr', 'optim_wrapper', 'param_scheduler', 'val_evaluator',
    'test_evaluator', 'default_hooks', 'custom_hooks', 'data_preprocessor', 'load_from', 'resume',
    'launcher', 'env_cfg', 'log_processor', 'log_level', 'visualizer', 'default_scope',
    'randomness', 'experiment_name', 'runner_type', 'custom_imports', 'model_wrapper_cfg',
    'find_unused_parameters', 'sync_bn', 'compile', 'tta_model', 'tta_pipeline', 'vis_backends',
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
        '--attention',
        nargs='+',
        metavar='METHOD',
        help='add these methods, each in its natural place, as tools/add_attention.py does (its '
        '--list prints them)',
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
        ValueError: It is no config, an option sets something that nothing reads, or a method
            cannot stand in the network.
    """
    if '::' not in path and not Path(path).is_file():
        raise FileNotFoundError(f'config: {path} does not exist (looked from {Path.cwd()})')
    try:
        cfg = read_config(path)
    except (SyntaxError, OSError, KeyError, TypeError) as error:
        raise ValueError(f'config: {path} cannot be read: {error}') from error
    _check_options(cfg, options)
    cfg.merge_from_dict(options)
    if 'model' not in cfg:
        near = closest('model', cfg.keys(), 1)
        hint = f'; it has {near[0]!r}' if near else ''
        raise ValueError(f'config: {path} has no model{hint}')
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
    """An option whose first word is misspelt would be a new setting that nothing reads."""
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
    import torch
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


def run(name: str, work, cfg_of, splits: tuple) -> int:
    """Do the work; end a failure with one sentence that says what to do.

    A mistake found by mmattn is answered by its sentence alone. After a failure inside a host the
    stack is shown too, and our sentence comes last.

    Args:
        name: The tool's name, put before the sentence.
        work (Callable): What to do.
        cfg_of (Callable): Gives the config as far as it is known, or None.
        splits: The splits of the config in use.

    Returns:
        int: The exit code.
    """
    try:
        work()
    except KeyboardInterrupt:
        print(f'{name}: interrupted; train again with --resume to go on', file=sys.stderr)
        return 130
    except Exception as error:
        ours = _is_ours(error, work.__code__.co_filename)
        sentence = str(error) if ours else None
        sentence = explain(error, cfg_of(), splits) or sentence
        if sentence is None:
            raise
        if not ours:
            traceback.print_exc()
        print(f'{name}: {sentence}', file=sys.stderr)
        return 1
    return 0


def _unscoped_name(text: str, cfg: Config | None) -> str | None:
    """The sentence for one of mmattn's names written without its scope, or with another."""
    from mmattn.registry import MODELS

    MODELS.import_from_location()  # a config without our scope made nobody look
    found = re.search(r'(\S+) is not in the (\S+) registry', text)
    if found:
        wrong = found[1].strip('\'"').rpartition('.')[2]
    elif 'Cannot find None in registry' in text and cfg is not None:  # the host forgets the name
        wrong = next(
            (name for name in _types(cfg.get('model')) if name in MODELS.module_dict), None
        )
    else:
        return None
    close = closest(wrong or '', MODELS.module_dict, 1, sure=True)
    if not close:
        return None
    return f"type {wrong!r} is not known to the host: did you mean 'mmattn.{close[0]}'?"


def _arguments(name: str, cfg: Config | None) -> set[str]:
    """The arguments of a registered class, and of mmattn's in the config, which hand theirs on."""
    from mmengine.registry import MODELS

    from mmattn.registry import MODELS as OURS

    ours = {f'mmattn.{kind}' for kind in OURS.module_dict}
    wanted = {name, *(kind for kind in _types(cfg and cfg.get('model')) if kind in ours)}
    registries = [MODELS]
    for registry in registries:  # grows: the hosts' registries are children of the engine's
        registries.extend(registry.children.values())
    kinds = [
        kind
        for registry in registries
        for short, kind in registry.module_dict.items()
        if inspect.isclass(kind) and {short, f'{registry.scope}.{short}'} & wanted
    ]
    return {
        argument
        for kind in kinds
        for base in kind.__mro__
        for argument in inspect.signature(base.__init__).parameters
        if argument != 'self'
    }


def _strings(cfg) -> list[str]:
    """Every text in a nested config."""
    if isinstance(cfg, dict):
        cfg = list(cfg.values())
    if isinstance(cfg, list | tuple):
        return [text for value in cfg for text in _strings(value)]
    return [cfg] if isinstance(cfg, str) else []


def _types(cfg) -> list[str]:
    """Every ``type`` in a nested config."""
    if isinstance(cfg, dict):
        own = [cfg['type']] if isinstance(cfg.get('type'), str) else []
        return own + [name for value in cfg.values() for name in _types(value)]
    if isinstance(cfg, list | tuple):
        return [name for value in cfg for name in _types(value)]
    return []


def _chain(error: BaseException) -> list[BaseException]:
    """The error and what caused it, the first cause last."""
    errors = [error]
    while (cause := errors[-1].__cause__ or errors[-1].__context__) and cause not in errors:
        errors.append(cause)
    return errors


def _is_ours(error: BaseException, tool: str = '') -> bool:
    """Whether some error of the chain was raised by a line of mmattn, or of the tool."""
    for link in _chain(error):
        frames = traceback.extract_tb(link.__traceback__)
        if not frames:
            continue
        file = frames[-1].filename
        if file == tool or Path(__file__).parents[1] in Path(file).parents:
            return isinstance(link, ValueError | TypeError | LookupError | OSError | ImportError)
    return False


def _was_loading(error: BaseException) -> bool:
    """Whether the error came out of reading a checkpoint file."""
    frames = traceback.extract_tb(error.__traceback__)
    return any(frame.name.startswith('load_from_') for frame in frames)


def explain(error: BaseException, cfg: Config | None = None, splits: tuple = ()) -> str | None:
    """Turn a failure into one sentence for the user; None if there is nothing to add to it.

    Args:
        error: What was raised.
        cfg: The config, to look for the picture that a decoder choked on.
        splits: The splits of the config in use.
    """
    text = str(error)
    if found := re.search(r'failed to load image: (.+)', text):
        return broken_image_sentence(found[1].strip(), 'it is no picture that can be decoded')
    if 'imdecode' in text and cfg is not None:
        broken = find_broken_images(image_paths(cfg, splits))
        if broken:
            return broken_image_sentence(*next(iter(broken.items())))
    if found := re.search(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", text):
        hint = did_you_mean(found[2], _arguments(found[1], cfg))
        return f'the config gives {found[1]} an argument it does not have: {found[2]!r}{hint}'
    if unscoped := _unscoped_name(text, cfg):
        return unscoped
    if _was_loading(error):
        reason = (text or type(error).__name__).splitlines()[0]
        return (
            'the checkpoint cannot be read, its file is damaged or was not written to the end '
            f'({reason}); take an older one'
        )
    if _is_ours(error):
        message = error.args[0] if isinstance(error, KeyError) and error.args else text
        return re.sub(r'^class `\w+` in \S+: ', '', str(message))
    return None
