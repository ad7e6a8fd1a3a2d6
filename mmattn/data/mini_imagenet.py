"""mini-ImageNet, every class divided into images to train and to validate on.

mini-ImageNet was made for few-shot learning: its 100 classes of 600 images are divided by class.
To train one classifier on all of them, the SSIA paper (arXiv 2206.07434) puts the classes together
and keeps 20 % of every class for validation.
"""

import csv
import io
import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mmattn.core.text import read_text

__all__ = ['split_mini_imagenet']

SPLITS = ('train', 'val', 'test')
SUFFIXES = ('.jpg', '.jpeg', '.png')


def read_lists(root: Path) -> dict[str, list[str]]:
    """Images by class from the three CSV files; paths below ``root``."""
    classes = defaultdict(list)
    for split in SPLITS:
        file = root / f'{split}.csv'
        rows = csv.DictReader(io.StringIO(read_text(file, newline=''), newline=''))
        if not {'filename', 'label'} <= set(rows.fieldnames or ()):
            raise ValueError(f'{file} must have the columns filename and label')
        for row in rows:
            classes[row['label']].append(f'images/{row["filename"]}')
    missing = [path for paths in classes.values() for path in paths if not (root / path).is_file()]
    if missing:
        raise ValueError(
            f'{len(missing)} listed images are not there, the first is {root / missing[0]}'
        )
    return classes


def read_folders(root: Path) -> dict[str, list[str]]:
    """Images by class from a folder a class; paths below ``root``."""
    classes = defaultdict(list)
    for split in SPLITS:
        for path in sorted((root / split).glob('*/*')):
            if path.suffix.lower() in SUFFIXES:
                classes[path.parent.name].append(path.relative_to(root).as_posix())
    return classes


def split_classes(
    classes: Mapping[str, Sequence[str]], val: float, seed: int
) -> tuple[list[str], list[str]]:
    """Keep a share of every class for validation.

    Args:
        classes: Class to its images.
        val: The share, between 0 and 1.
        seed: The same seed gives the same split.

    Returns:
        Lines of the training and of the validation list.

    Raises:
        ValueError: a share that leaves a class nothing to train or to validate on.
    """
    if not 0 < val < 1:
        raise ValueError(f'--val must lie between 0 and 1, got {val}')
    lines = [], []
    for label, name in enumerate(sorted(classes)):
        paths = sorted(classes[name])
        kept = round(val * len(paths))
        if not 0 < kept < len(paths):
            raise ValueError(f'--val {val} of the {len(paths)} images of {name} leaves no split')
        chosen = set(random.Random(f'{seed} {name}').sample(paths, kept))
        for path in paths:
            lines[path in chosen].append(f'{path} {label}\n')
    return lines


def split_mini_imagenet(
    root: str | Path,
    val: float = 0.2,
    seed: int = 0,
    report: Callable[[str], object] = lambda line: None,
) -> None:
    """Write the lists of a mini-ImageNet folder.

    Args:
        root: The folder.
        val: Share of every class for validation.
        seed: The same seed gives the same split.
        report: Receives each line meant for the user.

    Raises:
        ValueError: ``root`` has neither layout, a listed image is missing, ``val`` out of range.
    """
    root = Path(root)
    if all((root / f'{split}.csv').is_file() for split in SPLITS):
        classes = read_lists(root)
    else:
        classes = read_folders(root)
    if not classes:
        raise ValueError(
            f'{root} must hold train.csv, val.csv, test.csv and images/, '
            'or the folders train/, val/, test/ with a folder a class'
        )
    if len(classes) != 100:
        report(f'note: {len(classes)} classes, the whole of mini-ImageNet has 100')
    lists = dict(zip(('train', 'val'), split_classes(classes, val, seed)))
    lists['classes'] = [f'{name}\n' for name in sorted(classes)]
    (root / 'meta').mkdir(exist_ok=True)
    for name, lines in lists.items():
        (root / 'meta' / f'{name}.txt').write_text(''.join(lines))
    report(f'{root / "meta"}: {len(lists["train"])} images to train, {len(lists["val"])} to val')
