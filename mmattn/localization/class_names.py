"""From the classes that annotations name to the labels of a classifier."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.logging import print_log

from mmattn.core.names import shorten
from mmattn.core.text import read_lines
from mmattn.data.entries import Source

__all__ = [
    'Synsets',
    'class_name',
    'find_labels',
    'find_synsets',
    'in_words',
    'line_up',
    'read_synsets',
]

SYNSET_FILES = ('LOC_synset_mapping.txt', 'synset_words.txt', 'synsets.txt')
_WNID = re.compile(r'n\d{8}')
_REMEDY = 'pass --synsets with a text file of the classes, one a line, in label order'


def class_name(names: Sequence[str], label: int) -> str:
    """Readable name of a class, its number where no name is known."""
    return names[label] if 0 <= label < len(names) else f'class {label}'


def in_words(names: Sequence[str], num_classes: int) -> tuple[str, ...]:
    """Name classes in words where that is possible.

    A thousand classes without names, or with WordNet ids in rising order for names, are taken for
    ImageNet's, whose list ships with torchvision.

    Args:
        names: What is known of them, in label order; may be empty.
        num_classes: Number of classes of the classifier.
    """
    ids = list(names) == sorted(names) and all(map(_WNID.fullmatch, names))
    if num_classes != 1000 or len(names) not in (0, 1000) or not ids:
        return tuple(names)
    try:
        from torchvision.models import get_model_weights
    except ImportError:
        return tuple(names)
    return tuple(get_model_weights('resnet18').IMAGENET1K_V1.meta['categories'])


@dataclass(frozen=True)
class Synsets:
    """A list of classes in label order.

    Args:
        labels: Label of each class by the first word of its line.
        names: The rest of each line, or that word where it is all.
        lines: The whole lines.
        explicit: Whether the user named the file, rather than it being found.
    """

    labels: dict[str, int]
    names: tuple[str, ...]
    lines: tuple[str, ...]
    explicit: bool = True


def read_synsets(path: str | Path, explicit: bool = True) -> Synsets:
    """Read class names in label order, one class a line, first word is the name.

    Raises:
        ValueError: It is not UTF-8, or a name occurs twice.
    """
    labels: dict[str, int] = {}
    names, lines = [], []
    for number, line in enumerate(read_lines(path), 1):
        if line.strip():
            word, _, rest = line.strip().partition(' ')
            if word in labels:
                raise ValueError(f'{path}: line {number}: the class {word!r} occurs twice')
            labels[word] = len(labels)
            names.append(rest.strip() or word)
            lines.append(line.strip())
    return Synsets(labels, tuple(names), tuple(lines), explicit)


def find_synsets(annotations: str | Path, synsets: str | Path | None) -> Synsets | None:
    """Read the named file, else one that lies beside the annotations."""
    if synsets is not None:
        if not Path(synsets).is_file():
            raise ValueError(f'synsets: {synsets} does not exist')
        return read_synsets(synsets)
    path = Path(annotations)
    for folder in (path if path.is_dir() else path.parent, path.parent):
        for name in SYNSET_FILES:
            if (folder / name).is_file():
                return read_synsets(folder / name, explicit=False)
    return None


def find_labels(
    source: Source,
    synsets: Synsets | None,
    num_classes: int | None,
    known: Sequence[str] = (),
) -> tuple[dict[Any, int], tuple[str, ...]]:
    """Find the classifier's label of each class that the annotations name.

    Args:
        source: The annotations.
        synsets: A list of classes in label order, or None.
        num_classes: Number of classes of the classifier, or None.
        known: Their names, where the classifier knows them.

    Returns:
        ``({class in an entry: label}, class names)``.

    Raises:
        ValueError: The classes of the annotations are not those of the classifier, or their
            labels cannot be known.
    """
    used = {name for entry in source.entries for name in entry.names}
    if source.labels is not None and synsets is not None and synsets.explicit:
        places = line_up(source.classes, synsets.lines, map(source.labels.get, used))
        return {name: places[label] for name, label in source.labels.items()}, synsets.lines
    if source.labels is not None:  # ids with names
        return _place(source.labels, source.classes, used, known, num_classes)
    if all(isinstance(name, int) or (name.isascii() and name.isdigit()) for name in used):
        labels = {name: int(name) for name in used}
        names = source.classes
        if synsets is not None and (synsets.explicit or not names):
            names = synsets.names
        if not names or max(labels.values(), default=0) >= len(names):
            return labels, names
        placed = {label: label for label in range(len(names))}
        by_label, names = _place(
            placed, names, set(labels.values()), known, num_classes, _explicit(synsets)
        )
        return {name: by_label[label] for name, label in labels.items()}, names
    if synsets is not None:
        return _place(synsets.labels, synsets.names, used, known, num_classes, _explicit(synsets))
    return _by_name_alone(sorted(used), num_classes, known)


def _explicit(synsets: Synsets | None) -> bool:
    return synsets is not None and synsets.explicit


def _by_name_alone(
    names: list[str], num_classes: int | None, known: Sequence[str]
) -> tuple[dict[str, int], tuple[str, ...]]:
    """Labels of names that no list puts in order: the classifier's, else the sorted order."""
    if known and not (all(map(_WNID.fullmatch, names)) and set(names).isdisjoint(known)):
        places = line_up(names, known)
        return dict(zip(names, places)), tuple(known)
    if num_classes is not None and len(names) != num_classes:
        raise ValueError(
            f'the annotations name {len(names)} classes and the classifier has {num_classes}, '
            f'so the labels of the names are not known: {_REMEDY}'
        )
    return {name: label for label, name in enumerate(names)}, tuple(names)


def _place(
    labels: dict[Any, int],
    names: tuple[str, ...],
    used: Collection[Any],
    known: Sequence[str],
    num_classes: int | None,
    explicit: bool = False,
) -> tuple[dict[Any, int], tuple[str, ...]]:
    """Move labels in the order of ``names`` to the classifier's order."""
    if not known or (num_classes is not None and len(known) != num_classes):
        return labels, names
    lines = {label: [name] for name, label in labels.items() if isinstance(name, str)}
    for label, name in enumerate(names):
        lines.setdefault(label, []).append(name)
    forms = [tuple(lines[label]) for label in range(len(names))]
    wanted = [labels[name] for name in used if name in labels]
    places = line_up(forms, known, wanted, explicit)
    if places == list(range(len(names))):
        return labels, names
    moved = {name: places[label] for name, label in labels.items() if places[label] is not None}
    return moved, tuple(known)


def line_up(
    names: Sequence[str | tuple[str, ...]],
    known: Sequence[str],
    used: Iterable[int] | None = None,
    explicit: bool = False,
) -> list[int | None]:
    """Find the place of each name among the classifier's.

    Names are the same where they differ in case, in blanks, underscores and hyphens, or in
    synonyms after commas.

    Args:
        names: The annotations' classes in their order; several names for a class in a tuple.
        known: The classifier's classes in label order.
        used: Places in ``names`` that boxes have; all of them if None.
        explicit: Whether the user said that ``names`` are in label order; then names that have
            nothing in common with the classifier's are taken as translations.

    Returns:
        A place for every name, None for a class that no box has and the classifier lacks.

    Raises:
        ValueError: A class that boxes have is not among the classifier's.
    """
    forms = [_forms(name) for name in names]
    counts = Counter(map(_plain, known))
    places = {_plain(name): i for i, name in enumerate(known) if counts[_plain(name)] == 1}
    found = [next((places[form] for form in each if form in places), None) for each in forms]
    used = sorted(range(len(names)) if used is None else set(used))
    taken = [found[place] for place in used]
    absent = [place for place in used if found[place] is None]
    if not absent and len(set(taken)) == len(used):
        return found
    if len(names) == len(known) and all(
        found[i] in (i, None) and _same(forms[i], known[i]) for i in range(len(names))
    ):  # ImageNet has two classes of the name 'crane'
        return list(range(len(names)))
    if explicit and len(names) == len(known) and not any(place is not None for place in found):
        print_log(
            f'the names of --synsets ({shorten(_shown(names), 3)}) are not those of the '
            f'classifier ({shorten(known, 3)}): the order of the file is taken',
            'current',
            30,
        )
        return list(range(len(names)))
    only = shorten(_shown([names[place] for place in absent])) or 'none'
    raise ValueError(
        f'the classes of the annotations are not those of the classifier: {only} not among its '
        f'{len(known)} classes {shorten(known)}; {_REMEDY} of the classifier'
    )


def _shown(names: Sequence[str | tuple[str, ...]]) -> list[str]:
    return [name if isinstance(name, str) else name[-1] for name in names]


def _plain(name: str) -> str:
    name = re.sub(r'^\d+\.', '', unicodedata.normalize('NFC', name))  # CUB: 001.Some_Bird
    return ' '.join(re.split(r'[\s_,-]+', name.casefold())).strip()


def _forms(names: str | tuple[str, ...]) -> list[str]:
    """All that a class may be called: its names, and then each of their synonyms."""
    names = (names,) if isinstance(names, str) else names
    synonyms = [part for name in names for part in name.split(',')]
    return list(dict.fromkeys(map(_plain, (*names, *synonyms))))


def _same(forms: list[str], known: str) -> bool:
    """Whether a name is one of these, shortened or with a word added."""
    words = set(_plain(known).split())
    return any(words <= set(form.split()) or words >= set(form.split()) for form in forms)
