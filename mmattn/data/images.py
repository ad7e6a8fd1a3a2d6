"""Image files: which are missing, which cannot be decoded."""

import os
from pathlib import Path

__all__ = [
    'broken_picture_sentence',
    'decode_problem',
    'find_broken_pictures',
    'looks_whole',
    'missing_files',
]


def find_broken_pictures(paths) -> dict[str, str]:
    """Decode every picture; slow and thorough.

    Args:
        paths (Iterable[str]): Picture files.

    Returns:
        dict[str, str]: The files that cannot be decoded, and why.
    """
    broken = {path: decode_problem(path) for path in paths}
    return {path: problem for path, problem in broken.items() if problem}


def broken_picture_sentence(path: str, problem: str) -> str:
    """The one sentence for a picture that cannot be used."""
    return (
        f'the picture {path} cannot be used: {problem}; replace the file, or take it out of the '
        'annotations'
    )


def missing_files(paths: list[str]) -> list[str]:
    """Paths that do not exist; one listing a folder instead of one look a file."""
    listings: dict[str, set] = {}
    missing = []
    for path in paths:
        folder, name = os.path.split(path)
        if folder not in listings:
            try:
                listings[folder] = set(os.listdir(folder or '.'))
            except OSError:
                listings[folder] = set()
        if name not in listings[folder]:
            missing.append(path)
    return missing


def looks_whole(path: str) -> bool:
    """Whether the first and last bytes are those of a whole JPEG or PNG; cheap."""
    try:
        with open(path, 'rb') as file:
            start = file.read(8)
            file.seek(max(os.path.getsize(path) - 16, 0))
            end = file.read()
    except OSError:
        return False
    jpeg = start.startswith(b'\xff\xd8') and end.rstrip(b'\0').endswith(b'\xff\xd9')
    return jpeg or (start == b'\x89PNG\r\n\x1a\n' and b'IEND' in end)


def decode_problem(path: str) -> str:
    """Decode a picture fully; an empty string if nothing is wrong."""
    import cv2
    import numpy as np
    from PIL import Image

    try:
        content = Path(path).read_bytes()
    except OSError as error:
        return f'it cannot be read ({error.strerror})'
    if not content:
        return 'the file is empty'
    try:
        with Image.open(path) as picture:
            picture.load()
    except Image.UnidentifiedImageError:
        pass  # OpenCV knows more formats
    except (OSError, SyntaxError, ValueError) as error:
        return f'it is damaged ({error})'
    if cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) is None:
        return 'it is no picture that can be decoded'
    return ''
