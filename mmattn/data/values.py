"""Types and ranges of the values in annotation files."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

_LARGEST_ID = 2**53 - 1  # ids travel in float64
_LARGEST_SIDE = 10**6  # pixels
_FARTHEST = 10**7  # pixels; float32 holds whole numbers up to here
_LARGEST_AREA = 10**10  # square pixels; pycocotools leaves larger objects out


@dataclass(frozen=True)
class Kind:
    """A type with its range.

    Args:
        allowed: What is allowed, in words; goes into the sentence.
        read: Gives the value, or raises ValueError, TypeError or OverflowError.
    """

    allowed: str
    read: Callable[[Any], Any]


def show(value: Any) -> str:
    """Return a value with its type, short: ``the text '1'``, ``null``, ``the list []``."""
    if value is None:
        return 'null'
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value)
    text = text if len(text) <= 60 else f'{text[:57]}...'
    kinds = {str: 'the text ', list: 'the list ', dict: 'the object '}
    return kinds.get(type(value), '') + text


def _is_number(value: Any) -> bool:
    return type(value) is float or type(value) is int  # no bool


def _whole(low: int, high: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if not _is_number(value) or not low <= value <= high or value != int(value):
            raise ValueError
        return int(value)

    return read


def _between(low: float, high: float) -> Callable[[Any], float]:
    def read(value: Any) -> float:
        if not _is_number(value) or not low <= value <= high:  # no NaN either
            raise ValueError
        return value

    return read


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or '\0' in value:
        raise ValueError
    return value


def _flag(value: Any) -> int:
    if not isinstance(value, int | float) or value not in (0, 1):
        raise ValueError
    return int(value)


def _corners(value: Any) -> tuple:
    if not isinstance(value, list | tuple) or len(value) != 4:
        raise ValueError
    return tuple(map(_coordinate, value))


def _xywh(value: Any) -> tuple:
    box = _corners(value)
    if box[2] < 0 or box[3] < 0:
        raise ValueError
    return box


def _list_of_corners(value: Any) -> list:
    if not isinstance(value, list | tuple):
        raise ValueError
    return [_corners(box) for box in value]


def _segmentation(value: Any) -> Any:
    if isinstance(value, Mapping):  # run lengths
        height, width = value['size'] if isinstance(value.get('size'), list) else (0, 0)
        _side(height), _side(width)
        if not isinstance(value.get('counts'), str):
            for count in _list(value.get('counts')):
                _id(count)
        return value
    for polygon in _list(value):
        if len(_list(polygon)) < 6 or len(polygon) % 2:
            raise ValueError
        for number in polygon:
            _coordinate(number)
    return value


def _list(value: Any) -> list:
    if not isinstance(value, list) or not value:
        raise ValueError
    return value


_coordinate = _between(-_FARTHEST, _FARTHEST)
_side = _whole(1, _LARGEST_SIDE)
_id = _whole(0, _LARGEST_ID)


def from_text(read: Callable[[Any], Any], parse: Callable[[str], Any] = float) -> Callable:
    """Return the same range for a number that is written as text, as in XML and CSV."""

    def read_text(value: Any) -> Any:
        if not isinstance(value, str):
            raise ValueError
        return read(parse(value))

    return read_text


ID = Kind('a whole number that is not negative', _id)
IMAGE_ID = Kind('a whole number, the id of an image', _id)
CATEGORY_ID = Kind('a whole number, the id of a category', _id)
SIDE = Kind(f'a whole number of pixels from 1 to {_LARGEST_SIDE}', _side)
AREA = Kind(f'a number from 0 to {_LARGEST_AREA}', _between(0, _LARGEST_AREA))
XYWH = Kind(
    f'four finite numbers [x, y, width, height], width and height not negative, none beyond '
    f'{_FARTHEST}',
    _xywh,
)
CORNERS = Kind(
    f'a list of boxes [x0, y0, x1, y1] of four finite numbers, none beyond {_FARTHEST}',
    _list_of_corners,
)
FLAG = Kind('0 or 1', _flag)
NAME = Kind('a text that is not empty', _text)
SEGMENTATION = Kind(
    'polygons [[x, y, x, y, x, y, ...], ...] or run lengths with size and counts', _segmentation
)
LABEL = Kind('a whole number, the index of the class from 0', _id)
# the same as text
TEXT_SIDE = Kind(SIDE.allowed, from_text(_side, int))
TEXT_FLAG = Kind(FLAG.allowed, from_text(_flag, int))
TEXT_NUMBER = Kind(f'a finite number of pixels, none beyond {_FARTHEST}', from_text(_coordinate))
TEXT_LENGTH = Kind(f'a number of pixels from 0 to {_FARTHEST}', from_text(_between(0, _FARTHEST)))
TEXT_ID = Kind(IMAGE_ID.allowed, from_text(_id, int))
TEXT_LABEL = Kind(LABEL.allowed, from_text(_id, int))
TEXT_LABEL_FROM_1 = Kind(
    'a whole number, the number of the class from 1', from_text(_whole(1, _LARGEST_ID), int)
)
