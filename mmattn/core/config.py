"""Read a config; a ``.py`` file is a program, the others hold plain values only."""

import os
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from mmengine.config import Config
from mmengine.fileio.handlers.registry_utils import file_handlers
from mmengine.fileio.handlers.yaml_handler import YamlHandler
from mmengine.hub import get_config
from mmengine.utils import get_installed_path

from mmattn.core.hosts import require_host
from mmattn.core.names import did_you_mean

__all__ = ['FRAMEWORKS', 'forget_pretrained', 'is_pretrained', 'read_config']

FRAMEWORKS = ('mmdet', 'mmpretrain')  # that configs come with


class _PlainYaml(YamlHandler):
    """mmengine's YAML, without the tags that build objects of Python."""

    def load_from_fileobj(self, file: Any, **kwargs: Any) -> Any:
        kwargs['Loader'] = yaml.SafeLoader
        return super().load_from_fileobj(file, **kwargs)


@contextmanager
def _plain_yaml() -> Iterator[None]:
    before = {ending: file_handlers[ending] for ending in ('yaml', 'yml')}
    file_handlers.update(dict.fromkeys(before, _PlainYaml()))
    try:
        yield
    finally:
        file_handlers.update(before)


def read_config(path: str | os.PathLike) -> Config:
    """Read a config with its bases, as ``Config.fromfile`` does.

    Args:
        path: A ``.py`` file, which is run as the program it is, or a YAML or JSON file, of which
            only plain values are taken; or the name of a config that comes with a framework,
            such as ``mmdet::retinanet/retinanet_r50_fpn_1x_coco.py``.

    Raises:
        FileNotFoundError: There is no such file or name.
        ImportError: The framework of a name is absent or does not import.
        ValueError: It is no config; names the file and the reason.
    """
    package, _, name = str(path).partition('::')
    if name and package in FRAMEWORKS:
        require_host(package)  # mmengine's hub would install a missing one
        return _from_package(package, name)
    if not Path(path).is_file():
        raise FileNotFoundError(f'config: {path} does not exist (looked from {Path.cwd()})')
    try:
        with _plain_yaml():
            return Config.fromfile(os.fspath(path))
    except yaml.constructor.ConstructorError as error:
        mark = f' in line {error.problem_mark.line + 1}' if error.problem_mark else ''
        raise ValueError(
            f'config: {path} must hold plain values, got a tag{mark} that builds an object of '
            f'Python ({error.problem})'
        ) from error
    except yaml.YAMLError as error:
        raise ValueError(f'config: {path} cannot be read: {error}') from error
    except (SyntaxError, OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f'config: {path} cannot be read: {error}') from error


def _from_package(package: str, name: str) -> Config:
    """Return a config that comes with a framework."""
    file = Path(get_installed_path(package), '.mim', 'configs', name)
    if file.is_file():  # also names that mmengine's hub cannot read, such as gn+ws
        return read_config(file)
    try:
        return get_config(f'{package}::{name}')
    except (OSError, ValueError) as error:
        near = [other.name for other in file.parent.glob('*.py')]
        hint = did_you_mean(file.name, near, prefix=f'{package}::{Path(name).parent}/')
        raise FileNotFoundError(f'config: {package} has no config {name!r}{hint}') from error


def forget_pretrained(cfg: Any) -> list[str]:
    """Drop, in place, every checkpoint a config's network starts from: another one is loaded.

    Args:
        cfg: A config, or a part of one. ``init_cfg`` of type ``Pretrained`` (also in a list of
            rules, of which the others stay) and ``pretrained=`` go.

    Returns:
        What was dropped.
    """
    dropped: list[str] = []
    if isinstance(cfg, Config):
        cfg = cfg._cfg_dict
    if isinstance(cfg, MutableMapping):
        rules = cfg.get('init_cfg')
        if is_pretrained(rules):
            dropped.append(str(rules.get('checkpoint')))
            cfg['init_cfg'] = None
        elif isinstance(rules, list | tuple):
            dropped += [str(rule.get('checkpoint')) for rule in rules if is_pretrained(rule)]
            kept = [rule for rule in rules if not is_pretrained(rule)]
            if len(kept) < len(rules):
                cfg['init_cfg'] = kept or None
        if cfg.get('pretrained'):
            dropped.append(str(cfg['pretrained']))
            cfg['pretrained'] = False if cfg['pretrained'] is True else None
        parts = list(cfg.values())
    else:
        parts = cfg if isinstance(cfg, list | tuple) else []
    for part in parts:
        dropped += forget_pretrained(part)
    return dropped


def is_pretrained(rule: Any) -> bool:
    """Whether one rule of an ``init_cfg`` loads a checkpoint."""
    if not isinstance(rule, MutableMapping):
        return False
    kind = rule.get('type')
    if kind is None:  # as mmdet's PVT and Swin read it
        return bool(rule.get('checkpoint'))
    name = kind if isinstance(kind, str) else getattr(kind, '__name__', '')
    return name.rpartition('.')[2] in ('Pretrained', 'PretrainedInit')
