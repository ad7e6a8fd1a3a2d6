"""The difference of two configs as a leaf config of a few lines."""

import keyword
import os
import re
from pathlib import Path
from typing import NamedTuple

from mmengine.config import Config

__all__ = ['difference', 'is_lazy', 'leaf_text']

WIDTH = 99
_DELETE = '_delete_'
_OWN = ('mmattn',)  # the report, which nothing reads


def is_lazy(base: str) -> bool:
    """Whether a config file is written in mmengine's lazy style (``read_base``, classes)."""
    return '::' not in base and base.endswith('.py') and Config._is_lazy_import(base)


def leaf_text(base: str, plain: Config, new: Config, out: str | Path | None = None) -> str:
    """Return a config file that inherits ``base`` and states what ``new`` has otherwise.

    Args:
        base: what ``plain`` was read from: a file, or a name such as ``'mmdet::...'``.
        plain: the config of ``base``.
        new: the config that the file is to give.
        out: where the file will lie; a base file is named from there.

    Raises:
        ValueError: ``base`` is a config in mmengine's lazy style, which has no leaf of this kind.
    """
    if is_lazy(base):
        raise ValueError(
            f'cfg: {base} is written in the lazy style (read_base); a leaf of a few lines needs a '
            'config with _base_'
        )
    lines = [f'_base_ = {_text(_base_name(base, plain, out))}', '']
    old, changed = plain._to_lazy_dict(), new._to_lazy_dict()
    for key in _OWN:
        old.pop(key, None)
        changed.pop(key, None)
    if _is_wrapped(old.get('model'), changed.get('model')):
        outer = {k: v for k, v in changed['model'].items() if k != 'model'}
        inner = _derived('_base_.model', old['model'], changed['model']['model'])
        model = {_DELETE: True, 'type': outer.pop('type'), 'model': inner, **outer}
        lines.append(f'model = {_expression(model, len("model = "), 0)}')
        old.pop('model')
        changed.pop('model')
    for key, value in difference(old, changed, '_base_').items():
        lines.append(f'{key} = {_expression(value, len(key) + 3, 0)}')
    return '\n'.join(lines) + '\n'


def difference(old: dict, new: dict, path: str = '') -> dict:
    """Return what a child config of ``old`` has to say to be ``new``.

    Args:
        old: the base.
        new: what is wanted.
        path: an expression for ``old``; with it, a list that only grew is written as that.
    """
    found = {}
    for key, value in new.items():
        here = f'{path}.{key}' if path and _is_name(key) else ''
        if key not in old:
            found[key] = value
        elif isinstance(value, dict):
            change = _dict_difference(old[key], value, here)
            if change:
                found[key] = change
        elif not _same(old[key], value):
            found[key] = _grown(old[key], value, here)
    return found


def _dict_difference(old: object, new: dict, path: str) -> dict:
    if not isinstance(old, dict) or set(old) - set(new):
        return {} if _same(old, new) else {_DELETE: True, **new}
    return difference(old, new, path)


def _same(old: object, new: object) -> bool:
    return type(old) is type(new) and old == new


def _grown(old: object, new: object, path: str):
    longer = isinstance(old, list) and isinstance(new, list) and old
    if path and longer and len(new) > len(old) and new[: len(old)] == old:
        return [_Code(f'*{path}'), *new[len(old) :]]
    return new


def _is_wrapped(old: object, new: object) -> bool:
    """Whether a model stands around the old one."""
    return (
        isinstance(old, dict)
        and isinstance(new, dict)
        and isinstance(new.get('model'), dict)
        and not isinstance(old.get('model'), dict)
    )


def _derived(path: str, old: dict, new: dict):
    """Return ``new`` in terms of the dict ``path``, which is ``old``."""
    if set(old) - set(new):
        return new
    changes = {}
    for key, value in new.items():
        if key in old and _same(old[key], value):
            continue
        here = f'{path}.{key}'
        if isinstance(value, dict) and isinstance(old.get(key), dict):
            changes[key] = _derived(here, old[key], value)
        else:
            changes[key] = _grown(old.get(key), value, here)
    return _Derived(path, changes) if changes else _Code(path)


class _Derived(NamedTuple):
    """``dict(path, **changes)``."""

    path: str
    changes: dict


class _Code(str):
    """Text that is written as it is."""


def _expression(value: object, before: int, indent: int) -> str:
    """Return a value as code: on one line where it fits, else one entry a line."""
    short = _one_line(value)
    if indent + before + len(short) + 1 <= WIDTH:
        return short
    inner = ' ' * (indent + 4)
    if isinstance(value, _Derived):
        parts = [
            f'{inner}{k}={_expression(v, len(k) + 1, indent + 4)}'
            for k, v in value.changes.items()
        ]
        return ',\n'.join([f'dict(\n{inner}{value.path}', *parts]) + f',\n{" " * indent})'
    if isinstance(value, dict) and value and all(map(_is_name, value)):
        parts = [f'{inner}{k}={_expression(v, len(k) + 1, indent + 4)}' for k, v in value.items()]
        return 'dict(\n' + ',\n'.join(parts) + f',\n{" " * indent})'
    if isinstance(value, dict) and value:
        parts = [f'{inner}{k!r}: {_expression(v, 8, indent + 4)}' for k, v in value.items()]
        return '{\n' + ',\n'.join(parts) + f',\n{" " * indent}}}'
    if isinstance(value, list | tuple) and value:
        first, last = '[]' if isinstance(value, list) else '()'
        parts = [f'{inner}{_expression(v, 0, indent + 4)}' for v in value]
        return f'{first}\n' + ',\n'.join(parts) + f',\n{" " * indent}{last}'
    return short


def _one_line(value: object) -> str:
    if isinstance(value, _Code):
        return str(value)
    if isinstance(value, _Derived):
        changes = ''.join(f', {k}={_one_line(v)}' for k, v in value.changes.items())
        return f'dict({value.path}{changes})'
    if isinstance(value, dict):
        if all(map(_is_name, value)):
            return f'dict({", ".join(f"{k}={_one_line(v)}" for k, v in value.items())})'
        return '{' + ', '.join(f'{k!r}: {_one_line(v)}' for k, v in value.items()) + '}'
    if isinstance(value, list):
        return f'[{", ".join(map(_one_line, value))}]'
    if isinstance(value, tuple):
        return f'({", ".join(map(_one_line, value))}{"," if len(value) == 1 else ""})'
    return _text(value) if isinstance(value, str) else repr(value)


def _text(value: str) -> str:
    raw = '\\' in value and not any(c in value for c in '\'"\n') and not value.endswith('\\')
    return f"r'{value}'" if raw else repr(value)


def _is_name(key: object) -> bool:
    return isinstance(key, str) and key.isidentifier() and not keyword.iskeyword(key)


def _base_name(base: str, plain: Config, out: str | Path | None) -> str:
    if '::' in base:
        package, _, path = base.partition('::')
        readable = re.fullmatch(r'[\w/.-]+', path)  # mmengine reads no other names in _base_
        return base if readable else str(plain.filename)
    if out is None:
        return base
    return Path(os.path.relpath(base, Path(out).resolve().parent)).as_posix()
