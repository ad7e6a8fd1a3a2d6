"""Whole classifiers of mmpretrain that look at an image more than once."""

from mmattn.core.hosts import require_host

_problem = None

try:
    require_host('mmpretrain')
except ImportError as error:
    _problem = error
else:
    from mmattn.classifiers.step_classifier import StepClassifier
    from mmattn.classifiers.wsdan import WSDAN

__all__ = ['StepClassifier', 'WSDAN']


def __getattr__(name: str):
    if name in __all__:
        raise ImportError(f'{name} needs mmpretrain: {_problem}') from _problem
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
