"""Constructor arguments checked once for all classes: names and types, by the annotations.

A misspelt option, a missing one, or text where a number belongs ends in one sentence instead of
in Python's own words, or in a module that fails later. Values are each class's own business.
"""

import collections.abc
import contextlib
import functools
import inspect
import numbers
import re
import traceback
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mmattn.core.names import did_you_mean

__all__ = ['check_arguments', 'check_call', 'checked']

_Test = Callable[[object], bool]
_PLAIN: dict[type, tuple[_Test, str, str]] = {
    bool: (lambda v: isinstance(v, bool), 'True or False', 'booleans'),
    int: (
        lambda v: isinstance(v, numbers.Integral) and not isinstance(v, bool),
        'an integer',
        'integers',
    ),
    float: (
        lambda v: isinstance(v, numbers.Real) and not isinstance(v, bool),
        'a number',
        'numbers',
    ),
    str: (lambda v: isinstance(v, str), 'a string', 'strings'),
    dict: (lambda v: isinstance(v, Mapping), 'a dict', 'dicts'),
    types.NoneType: (lambda v: v is None, 'None', 'None'),
}
# what the frameworks' own constructors leave without annotations, by the names all of them use
_HOST_NAMES: dict[str, Any] = {
    **dict.fromkeys(('base_channels', 'in_channels', 'num_stages', 'stem_patch_size'), int),
    **dict.fromkeys(('strides', 'dilations'), Sequence[int]),
    **dict.fromkeys(('drop_path_rate', 'layer_scale_init_value'), float),
    **dict.fromkeys(('conv_cfg', 'norm_cfg', 'act_cfg', 'dcn'), dict | None),
    **dict.fromkeys(('deep_stem', 'avg_down', 'norm_eval', 'with_cp', 'zero_init_residual'), bool),
    **dict.fromkeys(('linear_pw_conv', 'use_grn', 'gap_before_final_norm'), bool),
    'frozen_stages': int,
    'init_cfg': dict | list[dict] | None,
    'out_indices': int | Sequence[int] | None,
    'plugins': list[dict] | None,
    'pretrained': str | None,
    'stage_with_dcn': Sequence[bool],
    'stem_channels': int | None,
    'style': str,
}
_OPTIONS = ('backend_args', 'data_prefix', 'filter_cfg', 'metainfo')  # dicts of no part
_HERE = str(Path(__file__).parents[1])
_OF_HOSTS = (
    *(TypeError, ValueError, LookupError, ArithmeticError, AttributeError),
    *(AssertionError, RuntimeError, FileNotFoundError),
)
_KEPT = (TypeError, ValueError, KeyError, FileNotFoundError)  # told again as what they are
_TWICE = re.compile(r"got multiple values for (?:keyword )?argument '(\w+)'")
_SIMPLE = (bool, int, float, str, bytes, list, tuple, types.NoneType)
_LISTS = (list, tuple, Sequence, collections.abc.Iterable)
_NUMBERS = {2: 'a pair of', 3: 'three', 4: 'four'}


@dataclass(frozen=True)
class _Kind:
    """What an annotation allows.

    Args:
        test: whether a value is such.
        words: for one such value, after "must be".
        plural: for several.
        item: what every item of it must be, if it is a list.
    """

    test: _Test
    words: str
    plural: str = ''
    item: '_Kind | None' = None

    def refusal(self, name: str, value: object) -> str:
        """Return the sentence about a value that is not such."""
        if self.item is not None and _is_list(value):
            for index, item in enumerate(value):
                if not self.item.test(item):
                    return f'{name}[{index}] must be {self.item.words}, got {item!r}'
        return f'{name} must be {self.words}, got {value!r}'


_ANYTHING = _Kind(lambda value: True, 'anything')


def check_arguments(cls: type) -> type:
    """Make a class check the names and types of its constructor's arguments.

    The constructor's own annotations say what is allowed; a parameter without one, or with one
    that is not understood, takes anything. Options that it hands on as ``**kwargs`` (and
    ``*args``) are those of the next class in line, whose annotations count likewise. What a
    framework says of a value that it does not like, often no more than an ``assert``, is told with
    the name of the class.

    Args:
        cls: changed in place, once.

    Returns:
        ``cls``, so that it can be used as a decorator.
    """
    init = cls.__dict__.get('__init__', cls.__init__)
    if init is object.__init__ and cls.__new__ is object.__new__:
        init = _takes_nothing
    if getattr(init, 'checks_arguments', False):
        return cls

    @functools.wraps(init)
    def __init__(self: object, *args: object, **kwargs: object) -> None:
        _signature(cls).check(cls.__name__, args, kwargs)
        with _retelling(cls.__name__):
            init(self, *args, **kwargs)

    __init__.checks_arguments = True
    cls.__init__ = __init__
    if '__new__' in cls.__dict__:  # it comes first
        new = cls.__dict__['__new__'].__func__

        @functools.wraps(new)
        def __new__(made: type, *args: object, **kwargs: object) -> object:
            _signature(cls).check(cls.__name__, args, kwargs)
            with _retelling(cls.__name__):
                return new(made, *args, **kwargs)

        cls.__new__ = __new__
    return cls


def checked(function: Callable) -> Callable:
    """Make a function that builds something check its arguments as a class does.

    Args:
        function: its annotations say what is allowed.

    Returns:
        A function that refuses other arguments with a sentence.
    """
    signature = _signature_of(function)

    @functools.wraps(function)
    def call(*args: object, **kwargs: object) -> object:
        signature.check(function.__name__, args, kwargs)
        with _retelling(function.__name__):
            return function(*args, **kwargs)

    return call


def _takes_nothing(self: object) -> None:
    """Return the constructor of a class that has none."""


def check_call(cls: type, options: Mapping[str, object]) -> None:
    """Check the keyword arguments for a class of a framework before it is built.

    Where a framework's annotation says ``int`` it often takes a pair as well (``roi_feat_size``).

    Args:
        cls: any class.
        options: what its constructor is to get.

    Raises:
        TypeError: an argument is unknown, missing or of another type.
    """
    signature = _signature(cls)
    tried = dict(options)
    for name, value in options.items():
        pair = isinstance(value, tuple | list) and len(value) == 2
        if pair and not signature.kinds.get(name, _ANYTHING).test(value):
            tried[name] = value[0]
    signature.check(cls.__name__, (), tried)


@dataclass(frozen=True)
class _Signature:
    """A constructor's parameters as they are checked.

    Args:
        positional: names that may be given by place.
        required: names without a default.
        kinds: name -> what it allows.
        closed: whether no other name is allowed.
    """

    positional: tuple[str, ...]
    required: tuple[str, ...]
    kinds: dict[str, _Kind]
    closed: bool

    def check(self, owner: str, args: tuple, kwargs: Mapping[str, object]) -> None:
        """Raise a TypeError with a sentence if these arguments are not allowed."""
        if self.closed and len(args) > len(self.positional):
            raise TypeError(
                f'{owner} takes at most {len(self.positional)} arguments by place '
                f'({", ".join(self.positional)}), got {len(args)}'
            )
        by_place = self.positional[: len(args)]
        for name in kwargs:
            if name in by_place:
                raise TypeError(f'{owner} got {name} twice, by place and by name')
            if self.closed and name not in self.kinds:
                hint = did_you_mean(name, self.kinds) or f'; it has {", ".join(self.kinds)}'
                raise TypeError(f'{owner} has no argument {name!r}{hint}')
        missing = [name for name in self.required if name not in kwargs and name not in by_place]
        if missing:
            raise TypeError(f'{owner} needs {" and ".join(missing)}')
        for name, value in (*zip(by_place, args), *kwargs.items()):
            kind = self.kinds.get(name, _ANYTHING)
            if not kind.test(value):
                raise TypeError(kind.refusal(name, value))
            if isinstance(value, Mapping) and not isinstance(value.get('type', ''), (str, type)):
                raise TypeError(f"{name}['type'] must be a name, got {value['type']!r}")


@functools.cache
def _signature(cls: type) -> _Signature:
    """Of a constructor and of those that its ``*args`` and ``**kwargs`` go to."""
    positional: list[str] = []
    required: list[str] = []
    kinds: dict[str, _Kind] = {}
    closed, as_it_is = False, True  # as_it_is: called as the class is, by place too
    for owner in (c for c in cls.__mro__ if '__init__' in c.__dict__):
        init = owner.__dict__['__init__']
        parameters = list(inspect.signature(init).parameters.values())[1:]
        hints = _hints(init)
        ours = owner.__module__.partition('.')[0] == cls.__module__.partition('.')[0]
        for p in parameters:
            if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) or p.name in kinds:
                continue
            kinds[p.name] = _kind(hints.get(p.name)) if p.name in hints else _unknown(p, ours)
            if not ours and p.name not in _OPTIONS:
                kinds[p.name] = _or_built(kinds[p.name])
            if p.default is None and not kinds[p.name].test(None):  # annotated as it was once done
                kinds[p.name] = _any_of([kinds[p.name], _kind(None)])
            if p.default is p.empty and as_it_is:  # else the class may give it itself
                required.append(p.name)
            if as_it_is and p.kind is not p.KEYWORD_ONLY:
                positional.append(p.name)
        any_place = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            closed = owner is not object and not any_place
            break
        as_it_is = as_it_is and any_place
    return _Signature(tuple(positional), tuple(required), kinds, closed)


def _signature_of(function: Callable) -> _Signature:
    """Of a function without ``*args`` and ``**kwargs``."""
    parameters = inspect.signature(function).parameters.values()
    hints = _hints(function)
    kinds = {p.name: _kind(hints[p.name]) if p.name in hints else _ANYTHING for p in parameters}
    positional = tuple(p.name for p in parameters if p.kind is not p.KEYWORD_ONLY)
    required = tuple(p.name for p in parameters if p.default is p.empty)
    return _Signature(positional, required, kinds, closed=True)


def _unknown(p: inspect.Parameter, ours: bool) -> _Kind:
    """Return a parameter without annotation."""
    return _ANYTHING if ours or p.name not in _HOST_NAMES else _kind(_HOST_NAMES[p.name])


def _or_built(kind: _Kind) -> _Kind:
    """Frameworks say ``dict`` and take a part that is built already, too."""
    if 'a dict' not in kind.words:
        return kind
    return replace(kind, test=lambda v: kind.test(v) or not isinstance(v, _SIMPLE))


def _hints(init: Callable) -> dict[str, Any]:
    try:
        return typing.get_type_hints(init)
    except (NameError, TypeError, AttributeError):  # names known to type checkers alone
        return {}


def _kind(annotation: Any) -> _Kind:
    """Return what an annotation allows."""
    if annotation is None:
        annotation = types.NoneType
    if isinstance(annotation, type) and annotation in _PLAIN:
        return _Kind(*_PLAIN[annotation])
    if isinstance(annotation, type) and issubclass(annotation, Mapping):
        return _Kind(*_PLAIN[dict])
    if isinstance(annotation, type) and annotation.__module__.partition('.')[0] == 'torch':
        return _Kind(lambda v: isinstance(v, annotation), f'a torch.{annotation.__name__}')
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return _any_of([_kind(part) for part in parts])
    if origin is typing.Literal:
        return _Kind(lambda v: v in parts, f'one of {", ".join(map(repr, parts))}')
    if annotation in _LISTS or origin in _LISTS:
        return _list_of(origin, parts)
    if origin in (dict, collections.abc.Mapping):
        return _Kind(*_PLAIN[dict])
    if origin is type or annotation is type:
        return _Kind(lambda v: isinstance(v, type), 'a class', 'classes')
    if origin is collections.abc.Callable or annotation is collections.abc.Callable:
        return _Kind(callable, 'a function', 'functions')
    return _ANYTHING


def _any_of(kinds: list[_Kind]) -> _Kind:
    if any(kind is _ANYTHING for kind in kinds):
        return _ANYTHING
    if any(kind.words == 'a number' for kind in kinds):
        kinds = [kind for kind in kinds if kind.words != 'an integer']
    words = list(dict.fromkeys(kind.words for kind in kinds))
    plural = list(dict.fromkeys(kind.plural or kind.words for kind in kinds))
    items = [kind.item for kind in kinds if kind.item is not None]
    return _Kind(
        lambda v: any(kind.test(v) for kind in kinds),
        ' or '.join(words),
        ' or '.join(plural),
        items[0] if len(items) == 1 else None,
    )


def _list_of(origin: Any, parts: tuple) -> _Kind:
    """Return a list or tuple; a text is none, and a config file may write one for the other."""
    if origin is tuple and len(parts) > 1 and Ellipsis not in parts:
        kinds = [_kind(part) for part in parts]
        number = _NUMBERS.get(len(kinds), str(len(kinds)))
        words = f'{number} {kinds[0].plural or "values"}'
        return _Kind(
            lambda v: _is_list(v) and len(v) == len(kinds) and _all(kinds, v), words, words
        )
    item = _kind(parts[0]) if parts else _ANYTHING
    words = 'a list' if item is _ANYTHING else f'a list of {item.plural or item.words}'
    return _Kind(lambda v: _is_list(v) and all(map(item.test, v)), words, 'lists', item)


def _is_list(value: object) -> bool:
    listed = isinstance(value, Sequence) and not isinstance(value, (str, bytes))
    return listed or (isinstance(value, np.ndarray) and value.ndim > 0)


def _all(kinds: list[_Kind], values: Sequence) -> bool:
    return all(kind.test(value) for kind, value in zip(kinds, values))


@contextlib.contextmanager
def _retelling(owner: str) -> Iterator[None]:
    """Tell what a framework says of the arguments of ``owner`` in one sentence."""
    try:
        yield
    except _OF_HOSTS as error:
        if twice := _TWICE.search(str(error)):
            raise TypeError(f'{owner} sets {twice[1]} itself, leave it out') from error
        if _is_ours(error) or 'alloc' in str(error):  # or no memory was left
            raise
        raise _retold(owner, error) from error


def _is_ours(error: BaseException | None) -> bool:
    """Whether an error, or the one it repeats, comes from this package's own lines."""
    while error is not None:
        frames = traceback.extract_tb(error.__traceback__)
        if frames and frames[-1].filename.startswith(_HERE):
            called = frames[-1].filename == __file__ and (frames[-1].line or '')[:5] != 'raise'
            return not called  # else a framework's constructor could not be called like this
        error = error.__cause__ or error.__context__
    return False


def _retold(owner: str, error: Exception) -> Exception:
    """Return a framework's error as one sentence; an ``assert`` without words by its condition."""
    frames = traceback.extract_tb(error.__traceback__)
    frame = next((f for f in reversed(frames) if 'site-packages' in f.filename), frames[-1])
    package = frame.filename.replace('\\', '/').rpartition('site-packages/')[2].split('/')[0]
    said = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
    if isinstance(error, AssertionError) and not said:
        said = f'it demands {(frame.line or "").removeprefix("assert ").rstrip(", ")}'
    kind = type(error) if isinstance(error, _KEPT) else ValueError
    try:
        return kind(f'{owner} cannot be built with these arguments ({package}: {said})')
    except Exception:  # an exception class with a constructor of its own
        return ValueError(f'{owner} cannot be built with these arguments ({package}: {said})')
