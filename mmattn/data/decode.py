"""Decode image files, and say of one that cannot be decoded why."""

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from mmattn.data.sizes import LARGEST, show_size

__all__ = [
    'broken_image_sentence',
    'decode_problem',
    'find_broken_images',
    'looks_whole',
    'read_image',
]


def read_image(
    path: str | os.PathLike, frame: str = 'upright', size: tuple[int, int] | None = None
) -> Image.Image:
    """Read an image as 8-bit RGB: gray, palette, CMYK, alpha and 16-bit files too.

    Args:
        path: The file.
        frame: ``'upright'`` turns the image as its EXIF orientation says, ``'stored'`` leaves it.
        size: ``(height, width)`` that it must have, or None.

    Raises:
        ValueError: The file cannot be decoded, has more than 89 megapixels (seen in its header,
            before any memory is taken), or another size.
    """
    try:
        with Image.open(path) as image:
            if image.width * image.height > LARGEST:
                raise ValueError(
                    f'it is {show_size(image.size[::-1])}, over the limit of {LARGEST} pixels'
                )
            if frame == 'upright':
                image = ImageOps.exif_transpose(image)
            image = _to_rgb(image)
    except Exception as error:  # decoders raise whatever they meet, struct.error among it
        raise ValueError(f'cannot decode {path}: {_reason(error)}') from error
    if size is not None and image.size[::-1] != tuple(size):
        raise ValueError(
            f'{path} is {show_size(image.size[::-1])}, the annotations say {show_size(size)}'
        )
    return image


def _reason(error: Exception) -> str:
    """Return the first line of what an error says, its type where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(('I', 'F')):  # 16 or 32 bits a pixel
        array = np.asarray(image).astype(np.float64)
        if array.max(initial=0) > 255:
            array = array / 257.0  # 65535 -> 255
        image = Image.fromarray(array.round().clip(0, 255).astype(np.uint8))
    return image.convert('RGB')


def find_broken_images(paths: Iterable[str]) -> dict[str, str]:
    """Decode every image; slow and thorough.

    Args:
        paths: Image files.

    Returns:
        The files that cannot be decoded, and why.
    """
    broken = {path: decode_problem(path) for path in paths}
    return {path: problem for path, problem in broken.items() if problem}


def broken_image_sentence(path: str, problem: str) -> str:
    """Write the one sentence for an image that cannot be used."""
    return (
        f'the image {path} cannot be used: {problem}; replace the file, or take it out of the '
        'annotations'
    )


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
    """Decode an image fully; an empty string if nothing is wrong.

    One of more than 89 megapixels is not decoded here, only to see whether it can be.
    """
    import cv2

    try:
        content = Path(path).read_bytes()
    except OSError as error:
        return f'it cannot be read ({error.strerror})'
    if not content:
        return 'the file is empty'
    try:
        with Image.open(path) as image:
            if image.width * image.height > LARGEST:
                return ''
            image.load()
    except Image.UnidentifiedImageError:
        pass  # OpenCV knows more formats
    except Image.DecompressionBombError:
        return ''
    except Exception as error:  # whatever a decoder meets
        return f'it is damaged ({_reason(error)})'
    try:
        decoded = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        return f'OpenCV cannot decode it ({error.err})'
    return 'it is no image that can be decoded' if decoded is None else ''
