"""Image files by name, and the nearest name where one is not there."""

import glob
import os
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from mmattn.core.names import closest

__all__ = ['ImageIndex', 'Names', 'find_images', 'images_below', 'missing_files']

SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp', '.tif', '.tiff', '.ppm', '.gif')
_MANY = 5000  # names; beyond it no search for misspelt ones


def _plain(name: str) -> str:
    return unicodedata.normalize('NFC', name).casefold()


class Names:
    """The names in a folder, to find the one that was meant by another."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = sorted(names)
        self._plain: dict[str, str] = {}
        self._stems: dict[str, str] = {}
        for name in self.names:
            self._plain.setdefault(_plain(name), name)
            self._stems.setdefault(os.path.splitext(_plain(name))[0], name)

    def twin(self, name: str) -> str:
        """Return the same name written otherwise: ``p0.JPG (another case)``; may be empty."""
        found = self._plain.get(_plain(name))
        if found is not None and found.casefold() == name.casefold():
            return f'{found} (another case)'
        if found is not None:
            return f'{found} (another Unicode form of the name)'
        found = self._stems.get(os.path.splitext(_plain(name))[0])
        return f'{found} (another suffix)' if found is not None else ''

    def nearest(self, name: str) -> str:
        """Return the most similar name; may be empty."""
        near = closest(name, self.names, 1, sure=True) if len(self.names) <= _MANY else []
        return near[0] if near else ''


def missing_files(paths: Iterable[str]) -> list[str]:
    """Paths that do not exist; one listing a folder instead of one look a file."""
    listings: dict[str, set] = {}
    missing = []
    for path in paths:
        folder, name = os.path.split(path)
        if folder not in listings:
            try:
                listings[folder] = set(os.listdir(folder or '.'))
            except (OSError, ValueError):
                listings[folder] = set()
        if name not in listings[folder]:
            missing.append(path)
    return missing


def images_below(folder: str | os.PathLike) -> list[Path]:
    """List the images in a folder and its sub-folders, sorted.

    Raises:
        ValueError: It is no folder, or has no image.
    """
    if not os.path.isdir(folder):
        raise ValueError(f'images: {folder} is no folder')
    files: list[Path] = []
    for root, _, names in os.walk(folder, followlinks=True):
        files += (Path(root, name) for name in names if name.lower().endswith(SUFFIXES))
    if not files:
        raise ValueError(f'images: no images in {folder}')
    return sorted(files)


def find_images(images: str | os.PathLike | Iterable[str | os.PathLike]) -> list[Path]:
    """List the images that a user names, each once.

    Args:
        images: A folder (with its sub-folders), a file, a glob as ``'shots/*.jpg'`` (``**``
            stands for any folders), or an iterable of these.

    Raises:
        ValueError: Nothing is there, or the folder has no image.
        TypeError: Something else than a path or an iterable of paths.
    """
    if isinstance(images, (str, os.PathLike)):
        return _find_images(os.fspath(images))
    if not isinstance(images, Iterable) or isinstance(images, bytes):
        raise TypeError(f'images must be a path or a list of paths, got {type(images).__name__}')
    found: dict[Path, None] = {}
    for number, path in enumerate(images):
        if not isinstance(path, (str, os.PathLike)):
            raise TypeError(f'images[{number}] must be a path, got {type(path).__name__}')
        found.update(dict.fromkeys(_find_images(os.fspath(path))))
    if not found:
        raise ValueError('images is empty: give a folder, a file, a glob or a list of these')
    return list(found)


def _find_images(path: str) -> list[Path]:
    if os.path.isdir(path):
        return images_below(path)
    if os.path.isfile(path):
        return [Path(path)]
    files = [Path(file) for file in glob.glob(path, recursive=True) if os.path.isfile(file)]
    if glob.has_magic(path):
        files = [file for file in files if file.name.lower().endswith(SUFFIXES)]
    if not files:
        raise ValueError(f'images: {path} is no file, no folder and matches no image')
    return sorted(files)


class ImageIndex:
    """Images of a folder, found by relative path, file name, or either without suffix.

    Args:
        folder: Folder with images, flat or with sub-folders.

    Raises:
        ValueError: It is no folder, or has no image.
    """

    def __init__(self, folder: str | os.PathLike) -> None:
        folder = Path(folder)
        self.files = images_below(folder)
        self._paths: dict[str, list[Path]] = {}  # relative paths with and without suffix
        self._names: dict[str, list[Path]] = {}
        self._twins: Names | None = None
        for file in self.files:
            path = file.relative_to(folder)
            for name in {path.as_posix(), path.with_suffix('').as_posix()}:
                self._paths.setdefault(name, []).append(file)
            for name in {file.name, file.stem}:
                self._names.setdefault(name, []).append(file)

    def find(self, key: str) -> list[Path]:
        """Files that a key may mean: those of that relative path, else all of that name."""
        key = key.replace('\\', '/')
        for start in range(key.count('/') + 1):  # 'images/a/b.jpg', 'a/b.jpg'
            tail = key.split('/', start)[-1]
            if tail in self._paths:
                return self._paths[tail]
        return self._names.get(key.rsplit('/', 1)[-1], [])

    def instead(self, key: str) -> str:
        """Say what the folder has instead of a name that is not there; may be empty."""
        name = key.replace('\\', '/').rsplit('/', 1)[-1]
        if self._twins is None:
            self._twins = Names(file.name for file in self.files)
        near = self._twins.twin(name) or self._twins.nearest(name)
        return f', the nearest is {near}' if near else ''
