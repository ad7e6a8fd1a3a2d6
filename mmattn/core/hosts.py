"""What mmattn knows of the packages it plugs into, without importing them."""

import importlib
import importlib.metadata
import importlib.util
import re
from types import ModuleType

__all__ = ['host_problem', 'require_host']

# import name -> (distributions that provide it, oldest version that works)
_HOSTS = {
    'mmengine': (('onedl-mmengine', 'mmengine'), (0, 7, 0)),
    'mmcv': (('onedl-mmcv', 'mmcv'), (2, 0, 0)),
    'mmdet': (('onedl-mmdetection', 'mmdet'), (3, 0, 0)),
    'mmpretrain': (('onedl-mmpretrain', 'mmpretrain'), (1, 0, 0)),
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
        One sentence with the fix, or an empty string when the host is there and new enough.
    """
    distributions, oldest = _HOSTS[name]
    install = f'pip install {distributions[0]} (or the open-mmlab {distributions[1]})'
    needed = '.'.join(map(str, oldest))
    if importlib.util.find_spec(name) is None:
        return f'{name} is not installed; mmattn needs {name} >= {needed} here: {install}.'
    for distribution in distributions:
        try:
            version = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
        if _release(version) < oldest:
            return f'{name} {version} is too old; mmattn needs {name} >= {needed}: {install}.'
    return ''


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
        return importlib.import_module(name)
    except (ImportError, AssertionError) as error:  # mmdet asserts the version of its mmcv
        raise ImportError(
            f'{name} is installed but does not import ({error}); '
            'install one matching set in a fresh environment: pip install "mmattn[onedl]".'
        ) from error
