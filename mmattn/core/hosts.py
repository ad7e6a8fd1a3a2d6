"""What mmattn knows of the packages it plugs into, without importing them."""

import importlib
import importlib.metadata
import importlib.util
import re
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import NoReturn

__all__ = ['explain_missing', 'host_problem', 'require_host']

# import name -> (distributions that provide it, oldest version that works, what it needs itself)
_HOSTS = {
    'mmengine': (('onedl-mmengine', 'mmengine'), (0, 7, 0), ''),
    'mmcv': (('onedl-mmcv', 'mmcv'), (2, 0, 0), ''),
    'mmdet': (('onedl-mmdetection', 'mmdet'), (3, 0, 0), 'mmcv'),
    'mmpretrain': (('onedl-mmpretrain', 'mmpretrain'), (1, 0, 0), 'mmcv'),
}


def _release(version: str) -> tuple[int, ...]:
    """``'3.5.1rc2'`` -> ``(3, 5, 1)``."""
    numbers = (re.match(r'\d+', part) for part in version.split('.')[:3])
    return tuple(int(number.group()) if number else 0 for number in numbers)


def host_problem(name: str) -> str:
    """Return what is wrong with an installed host, without importing it.

    Args:
        name: ``'mmengine'``, ``'mmcv'``, ``'mmdet'`` or ``'mmpretrain'``.

    Returns:
        One sentence with the fix, or an empty string when the host, and what it needs itself, is
        there and new enough.
    """
    distributions, oldest, needs = _HOSTS[name]
    install = f'pip install {distributions[0]} (or the open-mmlab {distributions[1]})'
    needed = '.'.join(map(str, oldest))
    if not _is_there(name):
        return f'{name} is not installed; mmattn needs {name} >= {needed} here: {install}.'
    for distribution in distributions:
        try:
            version = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
        if _release(version) < oldest:
            return f'{name} {version} is too old; mmattn needs {name} >= {needed}: {install}.'
    return host_problem(needs) if needs else ''


def _is_there(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):  # something in the import system refuses it
        return False


def require_host(name: str) -> ModuleType:
    """Import a host package or say in one sentence how to get it.

    Args:
        name: ``'mmengine'``, ``'mmcv'``, ``'mmdet'`` or ``'mmpretrain'``.

    Returns:
        The imported package.

    Raises:
        ImportError: the host is missing, too old, or does not import (the sentence says which).
    """
    problem = host_problem(name)
    if problem:
        raise ImportError(problem)
    try:
        module = importlib.import_module(name)
        if name == 'mmdet':  # its own modules ask for the compiled part of mmcv only later
            importlib.import_module('mmcv.ops')
        return module
    except (ImportError, AssertionError) as error:  # mmdet asserts the version of its mmcv
        raise ImportError(
            f'{name} is installed but does not import ({error}); '
            'install one matching set in a fresh environment: pip install "mmattn[onedl]".'
        ) from error


def explain_missing(
    module: str, hosts: Mapping[str, str], problems: Mapping[str, ImportError]
) -> Callable[[str], NoReturn]:
    """Return a module's ``__getattr__``, which says why a name is not there.

    Args:
        module: name of the module.
        hosts: the host that each of its names needs.
        problems: why a host cannot be used.
    """

    def __getattr__(name: str) -> NoReturn:
        host = hosts.get(name)
        if host in problems:
            raise ImportError(f'{name} needs {host}: {problems[host]}') from problems[host]
        raise AttributeError(f'module {module!r} has no attribute {name!r}')

    return __getattr__
