"""The page of the API: what the rooms of the package name as public."""

import importlib
from collections.abc import Iterable

import mmattn

__all__ = ['api_page']

_ROOMS = {
    'mmattn.layers': 'Gates',
    'mmattn.convs': 'Convolutions',
    'mmattn.backbones': 'Backbones',
    'mmattn.necks': 'Necks',
    'mmattn.heads': 'Heads',
    'mmattn.auxiliary': 'Losses of the training',
    'mmattn.localization': 'Localization',
    'mmattn.evaluation.coco_metric': 'Evaluation',
    'mmattn.testing': 'Checks of a method',
}


def api_page(methods: Iterable[str]) -> str:
    """Return the page.

    Args:
        methods: names of the pages of methods, which hold the reference of those classes.
    """
    methods = set(methods)
    parts = ['# API', 'What `import mmattn` names comes first, then the rooms of the package.']
    parts += ['## mmattn', *_entries('mmattn', mmattn._PUBLIC, methods)]
    for module, title in _ROOMS.items():
        names = importlib.import_module(module).__all__
        parts += [f'## {title}: `{module}`', *_entries(module, names, methods)]
    return '\n\n'.join(parts) + '\n'


def _entries(module: str, names: Iterable[str], methods: set[str]) -> Iterable[str]:
    for name in sorted(names, key=str.lower):
        thing = getattr(importlib.import_module(module), name)
        if name.lower() in methods:
            yield f'- `{name}`: [its page](methods/{name.lower()}.md)'
        elif isinstance(thing, type):
            yield _directive('class', module, name)
        elif callable(thing):
            yield _directive('function', module, name)


def _directive(kind: str, module: str, name: str) -> str:
    members = '   :members:\n' if kind == 'class' else ''
    return f'```{{eval-rst}}\n.. auto{kind}:: {module}.{name}\n{members}```'
