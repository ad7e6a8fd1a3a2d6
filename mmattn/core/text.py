"""One way to read and to write every text file: UTF-8, with or without a byte order mark."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

__all__ = ['read_json', 'read_lines', 'read_text', 'write_text']


def read_text(path: str | os.PathLike, newline: str | None = None) -> str:
    """Return the whole text of a file.

    Args:
        path: The file.
        newline: As for :func:`open`: ``None`` makes every line end a ``\\n``, ``''`` keeps them
            (for :mod:`csv`).

    Raises:
        OSError: The file is missing or cannot be read.
        ValueError: It is not UTF-8; names the file, the line and the byte.
    """
    data = Path(path).read_bytes()
    try:
        text = data.decode('utf-8-sig')
    except UnicodeDecodeError as error:
        raise ValueError(_not_utf8(path, data, error)) from error
    return text.replace('\r\n', '\n').replace('\r', '\n') if newline is None else text


def read_lines(path: str | os.PathLike) -> list[str]:
    """Return the lines of a file without their ends, as iterating over it would give them.

    Raises:
        OSError, ValueError: As :func:`read_text`.
    """
    lines = read_text(path).split('\n')
    return lines if lines[-1] else lines[:-1]


def read_json(path: str | os.PathLike) -> Any:
    """Return what a JSON file holds.

    Raises:
        OSError: The file is missing or cannot be read.
        ValueError: It is not UTF-8 or not JSON; names the file and the line.
    """
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise ValueError(
            f'{path} is not JSON: line {error.lineno}, column {error.colno}: {error.msg}'
        ) from error
    except RecursionError as error:
        raise ValueError(f'{path}: its JSON is nested too deeply to be read') from error


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write a text file in one piece: a reader, or a kill, meets the old file or the new one.

    File names in the text that are not UTF-8 (as :func:`os.fsdecode` gives them) are written as
    the bytes they are.

    Args:
        path: The file; its folder is made.
        text: What to write.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, aside = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.name[:100]}.')
    try:
        with os.fdopen(handle, 'wb') as file:
            file.write(text.encode('utf-8', 'surrogateescape'))
            file.flush()
            os.fsync(file.fileno())
        os.chmod(aside, 0o644)
        os.replace(aside, path)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise


def _not_utf8(path: str | os.PathLike, data: bytes, error: UnicodeDecodeError) -> str:
    if data[:2] in (b'\xff\xfe', b'\xfe\xff'):
        return f'{path} is UTF-16 text, it must be UTF-8: save it again with that encoding'
    line = data.count(b'\n', 0, error.start) + 1
    return (
        f'{path}: line {line} is not UTF-8 text (byte 0x{data[error.start]:02x}): '
        'save the file again with the encoding UTF-8'
    )
