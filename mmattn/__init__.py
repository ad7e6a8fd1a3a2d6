"""Attention methods for MMDetection 3.x, as config lines.

``import mmattn`` is light: it imports neither a framework (mmdet, mmcv, mmpretrain) nor torch.
The parts that need one ask for it with :func:`require_host` when they are used.
"""

import importlib

from mmattn.core.version import __version__

# public name -> the module that holds it, imported when the name is first used
_PUBLIC = {
    'Gate': 'mmattn.layers._gate',
    'ScalingGate': 'mmattn.layers._gate',
    'add_attention': 'mmattn.insertion',
    'fuse': 'mmattn.deploy.fusion',
    'host_problem': 'mmattn.core.hosts',
    'localize': 'mmattn.localization.predict',
    'report': 'mmattn.insertion',
    'require_host': 'mmattn.core.hosts',
}
_MODULES = ('testing',)  # public modules, likewise
__all__ = ['__version__', 'register_all_modules', *_PUBLIC, *_MODULES]


def __getattr__(name: str) -> object:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    if name in _MODULES:
        return importlib.import_module(f'mmattn.{name}')
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def register_all_modules() -> None:
    """Import every part of mmattn that the installed frameworks allow.

    Configs do not need this: mmengine finds ``type='mmattn.X'`` by itself.
    """
    from mmattn.registry import MODELS

    MODELS.import_from_location()
