"""Whole classifiers of mmpretrain that look at an image more than once."""

from mmattn.core.hosts import explain_missing, require_host

_HOSTS = {'StepClassifier': 'mmpretrain', 'WSDAN': 'mmpretrain'}
_problems = {}

try:
    require_host('mmpretrain')
except ImportError as error:
    _problems['mmpretrain'] = error
else:
    from mmattn.classifiers.step_classifier import StepClassifier
    from mmattn.classifiers.wsdan import WSDAN

__all__ = ['StepClassifier', 'WSDAN']


__getattr__ = explain_missing(__name__, _HOSTS, _problems)
