"""What an annotation file says about each image, whatever its layout."""

from dataclasses import dataclass, field
from typing import Any

__all__ = ['Entry', 'Source']


@dataclass
class Entry:
    """What the annotations say about one image.

    Args:
        key: Name of the image as the file spells it, with or without folder and suffix.
        names: Class of each box, or one for all: a name, a class index, or a category id.
        boxes: ``(x0, y0, x1, y1)`` each.
        size: ``(height, width)`` or None.
        faults: Sentences about values that cannot be used; the image is then left out.
        crowd: How many crowd boxes were left out.
    """

    key: str
    names: list = field(default_factory=list)
    boxes: list = field(default_factory=list)
    size: tuple[int, int] | None = None
    faults: list[str] = field(default_factory=list)
    crowd: int = 0


@dataclass(frozen=True)
class Source:
    """The entries of one annotation file or folder.

    Args:
        entries: One :class:`Entry` an image.
        classes: Class names in label order where the source knows them.
        labels: ``{name in an entry: label}`` where the source knows it.
        complete: Whether every image of the folder should have an entry.
        frame: What the boxes belong to where no size says it: ``'stored'``, the pixels as they lie
            in the file, or ``'upright'``, turned by the file's EXIF orientation.
        faults: ``(key or place, sentence)`` for what belongs to no entry.
    """

    entries: list[Entry]
    classes: tuple[str, ...] = ()
    labels: dict[Any, int] | None = None
    complete: bool = True
    frame: str = 'upright'
    faults: tuple[tuple[str, str], ...] = ()
