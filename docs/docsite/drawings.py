"""Small drawings of where a method acts, as SVG inside a page: no script, no file, any theme."""

from collections.abc import Sequence
from html import escape

__all__ = ['block', 'network']

_STAGES = ('stem', 'C2', 'C3', 'C4', 'C5')
_BOX, _GAP, _HEIGHT = 58, 20, 34
# (label, position of a gate after it) from the input of a bottleneck to its output
_BLOCK = (
    ('1x1 conv1, norm, ReLU', 'after_conv1'),
    ('3x3 conv2', 'before_norm2'),
    ('norm, ReLU', 'after_conv2'),
    ('1x1 conv3, norm', 'branch'),
    ('+ shortcut, ReLU', 'after_add'),
)


def network(
    sentence: str,
    inside: Sequence[str] = (),
    after: Sequence[str] = (),
    neck: bool = False,
    head: bool = False,
) -> str:
    """Draw stem, stages, neck and head in a row.

    Args:
        sentence: what the drawing says, for those who do not see it.
        inside: stages (``'C4'``) with the method in their blocks.
        after: stages with the method after them.
        neck: whether it is the neck that has it.
        head: likewise, the head.
    """
    parts, x = [], 2
    boxes = [*((name, name in inside) for name in _STAGES), ('neck', neck), ('head', head)]
    for name, marked in boxes:
        parts.append(_box(x, 20, _BOX, _HEIGHT, name, marked))
        end = x + _BOX
        if name != boxes[-1][0]:
            parts.append(_line(end, 37, end + _GAP, 37))
        if name in after:
            parts.append(_dot(end + _GAP // 2, 37))
        x = end + _GAP
    return _svg(x - _GAP + 2, 74, sentence, parts)


def block(sentence: str, position: str = '', conv: bool = False, feedback: bool = False) -> str:
    """Draw a bottleneck from its input down to its output.

    Args:
        sentence: as in :func:`network`.
        position: where a gate stands.
        conv: whether the 3x3 convolution is the method.
        feedback: whether the top is fed back to the bottom of the last convolution.
    """
    parts, y, width = [_text(110, 14, 'input of the block')], 20, 200
    for label, place in _BLOCK:
        parts.append(_line(110, y, 110, y + 12))
        parts.append(_box(10, y + 12, width, 26, label, conv and label == '3x3 conv2'))
        y += 38
        if place == position:
            parts.append(_line(110, y, 110, y + 12))
            parts.append(_box(10, y + 12, width, 26, 'the gate', True))
            y += 38
    parts += [_line(110, y, 110, y + 12), _text(110, y + 26, 'output')]
    if feedback:  # from the last norm back to the input of conv3
        parts.append(
            '<path d="M210 159 H236 V140 H114" fill="none" class="mark" stroke-width="2"/>'
            '<path d="M122 135 L113 140 L122 145" fill="none" class="mark" stroke-width="2"/>'
        )
    return _svg(250, y + 34, sentence, parts)


def _svg(width: int, height: int, sentence: str, parts: Sequence[str]) -> str:
    title = escape(sentence, quote=True)
    return (
        f'<svg class="drawing" role="img" aria-label="{title}" viewBox="0 0 {width} {height}" '
        f'style="max-width: {width}px" xmlns="http://www.w3.org/2000/svg">'
        f'<title>{title}</title>{"".join(parts)}</svg>'
    )


def _box(x: int, y: int, width: int, height: int, label: str, marked: bool) -> str:
    kind = 'mark' if marked else 'plain'
    return (
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="4" class="{kind}"/>'
        + _text(x + width // 2, y + height // 2 + 4, label)
    )


def _text(x: int, y: int, words: str) -> str:
    return f'<text x="{x}" y="{y}" text-anchor="middle">{escape(words)}</text>'


def _line(x0: int, y0: int, x1: int, y1: int) -> str:
    return f'<line x1="{x0}" y1="{y0}" x2="{x1}" y2="{y1}" class="plain"/>'


def _dot(x: int, y: int) -> str:
    return f'<circle cx="{x}" cy="{y}" r="8" class="mark"/>'
