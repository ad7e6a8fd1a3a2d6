"""Names: what a misspelt one was meant to be, and short ones that tell files apart."""

import difflib
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

__all__ = ['closest', 'did_you_mean', 'distinct_names', 'listed', 'shorten']

_NEAR = 0.6  # share of common letters from which a name is worth showing
_SURE = 0.8  # ... and from which it is taken for the same name, misspelt
_SHOWN = 6


def closest(word: object, names: Iterable[str], n: int = 3, sure: bool = False) -> list[str]:
    """Return the names most like a word, the best first; case and Unicode form do not count.

    Args:
        word: What was written.
        names: What could have been meant.
        n: At most so many.
        sure: Only names that are the word but for a slip, on which an error may rest.
    """
    plain: dict[str, str] = {}
    for name in names:
        plain.setdefault(_plain(name), name)
    near = difflib.get_close_matches(_plain(word), plain, n, cutoff=_SURE if sure else _NEAR)
    return [plain[name] for name in near]


def did_you_mean(
    word: object, names: Iterable[str], n: int = 1, sep: str = ', ', prefix: str = ''
) -> str:
    """Return the end of a sentence about an unknown name: ``", did you mean 'model'?"``.

    Args:
        word: What was written.
        names: What could have been meant.
        n: At most so many.
        sep: Put before the words.
        prefix: Put before every name, such as a scope.

    Returns:
        Nothing where no name is near.
    """
    near = closest(word, names, n)
    if not near:
        return ''
    return f'{sep}did you mean {" or ".join(repr(prefix + name) for name in near)}?'


def listed(word: object, names: Iterable[str], limit: int = 30) -> str:
    """Return the names that there are, those like ``word`` first, and how many are left out."""
    names = list(names)
    near = closest(word, names, 5)
    shown = (near + [name for name in names if name not in near])[:limit]
    more = f' and {len(names) - len(shown)} more' if len(names) > len(shown) else ''
    return ', '.join(map(repr, shown)) + more


def shorten(names: Iterable[str], shown: int = _SHOWN) -> str:
    """Join names, the first few only, with how many there are."""
    names = list(names)
    text = ', '.join(names[:shown])
    return f'{text}, ... ({len(names)} in all)' if len(names) > shown else text


def distinct_names(paths: Iterable[str | os.PathLike]) -> list[str]:
    """Return a short name for each file: its stem where no other one has it.

    Else its whole name, with as many of its folders before it as tell it apart.
    """
    paths = [Path(path) for path in paths]
    names = [path.stem for path in paths]
    absolute = [path.absolute().parts for path in paths]
    for depth in range(1, max(map(len, absolute), default=0)):
        counts = Counter(name.casefold() for name in names)
        twice = [i for i, name in enumerate(names) if counts[name.casefold()] > 1]
        if not twice:
            break
        for i in twice:
            names[i] = '_'.join(absolute[i][-depth:])
    return names


def _plain(name: object) -> str:
    return unicodedata.normalize('NFC', str(name)).casefold()
