"""Necks: a tuple of maps in, a tuple of maps out. They need mmdet."""

from mmattn.core.hosts import require_host

_problem = None

try:
    require_host('mmdet')
except ImportError as error:
    _problem = error
else:
    from mmattn.necks.aw_fpn import AWFPN

__all__ = ['AWFPN']


def __getattr__(name: str) -> object:
    if name in __all__ and _problem:
        raise ImportError(f'{name} needs mmdet: {_problem}') from _problem
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
