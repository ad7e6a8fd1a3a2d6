"""From score maps to boxes: resize, threshold, components, box.

The resize and the threshold run on the maps' own device; what reaches the host is one byte per
pixel. A :class:`BoxRule` pins every detail, because published figures depend on them: on smooth
7 x 7 maps the rules below disagree by IoU 0.6 to 0.75 on average.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

_SELECT = ('largest-component', 'largest-contour', 'longest-contour', 'all-contours')
_SCALE = ('max', 'minmax-uint8', 'jet-155')


@dataclass(frozen=True)
class BoxRule:
    """How a map becomes boxes. Immutable; write your own in the config or in Python.

    Args:
        name: Shown in the results.
        threshold: Fraction of the maximum, in [0, 1). ``tdam``: fraction of 255 in grey values.
        scale: ``'max'``: compare the map itself with ``threshold * max``. ``'minmax-uint8'``:
            stretch to 0..255 whole numbers first. ``'jet-155'``: stretch to 0..155, colour with
            JET, turn grey.
        strict: ``>`` instead of ``>=``.
        relu: Set negative values to zero before the resize.
        interpolation: ``'bilinear'`` or ``'bicubic'`` (corners not aligned).
        select: ``'largest-component'`` (8-connected, most pixels, first in reading order on a
            tie), ``'largest-contour'`` (largest enclosed area), ``'longest-contour'`` (most
            corner points), ``'all-contours'`` (one box each, hole borders too).
        min_points: A contour needs more corner points than this (``'longest-contour'`` only).
        empty: Answer where nothing is selected: ``'whole'`` image or ``'zero'`` box.
        iou: Convention the boxes are compared in, ``'continuous'`` or ``'pixel-inclusive'``.
        clip_last: Clip right and bottom edges to the last pixel index instead of the size.

    Raises:
        ValueError: A field holds something that is not listed above.
    """

    name: str
    threshold: float = 0.15
    scale: str = 'max'
    strict: bool = False
    relu: bool = True
    interpolation: str = 'bilinear'
    select: str = 'largest-component'
    min_points: int = 0
    empty: str = 'whole'
    iou: str = 'continuous'
    clip_last: bool = False

    def __post_init__(self) -> None:
        allowed = dict(
            scale=_SCALE,
            interpolation=('bilinear', 'bicubic'),
            select=_SELECT,
            empty=('whole', 'zero'),
            iou=('continuous', 'pixel-inclusive'),
        )
        for key, values in allowed.items():
            if getattr(self, key) not in values:
                raise ValueError(
                    f'{key} must be one of {", ".join(values)}, got {getattr(self, key)!r}'
                )
        if not 0 <= self.threshold < 1:
            raise ValueError(f'threshold must be in [0, 1), got {self.threshold}')


_CLOVA = dict(
    scale='minmax-uint8',
    strict=True,
    relu=False,
    interpolation='bicubic',
    empty='zero',
    iou='pixel-inclusive',
    clip_last=True,
)
RULES = {
    rule.name: rule
    for rule in (
        BoxRule('gradcam-0.15', 0.15),
        BoxRule('cam-0.20', 0.20, relu=False, strict=True),
        BoxRule('clova-v1', 0.20, select='largest-contour', **_CLOVA),
        BoxRule('clova-v2', 0.20, select='all-contours', **_CLOVA),
        BoxRule(
            'tdam',
            0.15,
            scale='jet-155',
            strict=True,
            relu=False,
            select='longest-contour',
            min_points=15,
            empty='zero',
        ),
    )
}


def get_rule(rule: str | Mapping | BoxRule) -> BoxRule:
    """Turn a name, a mapping or a :class:`BoxRule` into a :class:`BoxRule`.

    A name may carry another threshold, ``'gradcam-0.30'``. A mapping changes single fields of a
    named rule, ``dict(base='gradcam-0.15', threshold=0.3, name='mine')``, or spells a whole one.

    Raises:
        ValueError: Unknown name or field, or a value outside what the field allows.
        TypeError: Neither a name, nor a mapping, nor a rule.
    """
    if isinstance(rule, BoxRule):
        return rule
    if isinstance(rule, str):
        return _rule_by_name(rule)
    if not hasattr(rule, 'items'):
        raise TypeError(f'rule must be a name, a mapping or a BoxRule, got {type(rule).__name__}')
    values = dict(rule)
    base = _rule_by_name(values.pop('base')) if 'base' in values else BoxRule('custom')
    unknown = set(values) - set(BoxRule.__dataclass_fields__)
    if unknown:
        fields = ', '.join(BoxRule.__dataclass_fields__)
        raise ValueError(f'rule has no field {sorted(unknown)}; its fields are base, {fields}')
    return replace(base, **values)


def _rule_by_name(name: str) -> BoxRule:
    if name in RULES:
        return RULES[name]
    match = re.fullmatch(r'(gradcam|cam|clova-v1|clova-v2)[-@](0?\.\d+)', name)
    if match is None:
        raise ValueError(
            f'rule must be one of {", ".join(RULES)} (or with your own threshold, as '
            f'gradcam-0.30 or clova-v1@0.35), got {name!r}'
        )
    base = {'gradcam': 'gradcam-0.15', 'cam': 'cam-0.20'}.get(match[1], match[1])
    return replace(RULES[base], name=name, threshold=float(match[2]))


def upsample(maps: Tensor, size: Sequence[int], rule: BoxRule = RULES['gradcam-0.15']) -> Tensor:
    """Resize maps to the input size on their own device.

    A map that holds NaN or infinity becomes all zero.

    Shape: ``(N, h, w) -> (N, H, W)`` with ``size = (H, W)``.
    """
    maps = maps.float()
    finite = torch.isfinite(maps).flatten(1).all(1)
    maps = torch.where(finite[:, None, None], maps, maps.new_zeros(()))
    maps = maps.clamp(min=0) if rule.relu else maps
    return F.interpolate(
        maps[:, None], size=tuple(size), mode=rule.interpolation, align_corners=False
    )[:, 0]


def stretch(maps: Tensor, top: int = 255) -> Tensor:
    """Stretch each map to 0..``top`` by its own minimum and maximum; constant maps become zero.

    A range of less than 1e-5 of the values counts as constant: it is what a bicubic resize in
    single precision makes of a constant.

    Shape: ``(N, H, W) -> (N, H, W)``, float.
    """
    low = maps.amin((1, 2), keepdim=True)
    high = maps.amax((1, 2), keepdim=True)
    span = high - low
    flat = span <= 1e-5 * torch.maximum(high.abs(), low.abs())
    return torch.where(flat, maps.new_zeros(()), (maps - low) / span.masked_fill(flat, 1)) * top


def masks_from_maps(maps: Tensor, size: Sequence[int], rule: BoxRule) -> Tensor:
    """Resize and threshold maps; the last step that runs on the maps' device.

    Shape: ``(N, h, w) -> (N, H, W)``, uint8 0 or 1, on the same device.
    """
    maps = upsample(maps, size, rule)
    if rule.scale == 'max':
        top = maps.amax((1, 2), keepdim=True)
        limit = rule.threshold * top
        mask = (maps > limit) if rule.strict else (maps >= limit)
        return (mask & (top > 0)).to(torch.uint8)
    if rule.scale == 'minmax-uint8':
        levels = stretch(maps).to(torch.uint8)  # cut off, as numpy's astype
        limit = (rule.threshold * levels.amax((1, 2), keepdim=True).double()).to(torch.uint8)
        mask = (levels > limit) if rule.strict else (levels >= limit)
        return (mask & (levels.amax((1, 2), keepdim=True) > 0)).to(torch.uint8)
    levels = stretch(maps, 155).round().long()
    grey = torch.as_tensor(_jet_grey(), device=maps.device)[levels]
    limit = int(rule.threshold * 255)
    return ((grey > limit) if rule.strict else (grey >= limit)).to(torch.uint8)


@lru_cache(maxsize=1)
def _jet_grey() -> np.ndarray:
    """Grey value of each of the 256 JET colours, shape (256,)."""
    ramp = np.arange(256, dtype=np.uint8)[None]
    return cv2.cvtColor(cv2.applyColorMap(ramp, cv2.COLORMAP_JET), cv2.COLOR_BGR2GRAY)[0]


def boxes_from_mask(mask: np.ndarray, rule: BoxRule) -> np.ndarray:
    """Find the rule's boxes in one mask.

    Shape: ``(H, W)`` uint8 -> ``(B, 4)`` float64, ``B >= 1``, in mask pixels, right and bottom
    edges outside the box (or on the last pixel where the rule says ``clip_last``).
    """
    if rule.select == 'largest-component':
        rects = _largest_component(mask)
    else:
        rects = _contour_rects(mask, rule)
    h, w = mask.shape
    if len(rects) == 0:
        return np.array([[0, 0, w, h] if rule.empty == 'whole' else [0, 0, 0, 0]], np.float64)
    boxes = np.asarray(rects, np.float64)
    boxes[:, 2:] += boxes[:, :2]  # x, y, width, height -> x0, y0, x1, y1
    last = 1 if rule.clip_last else 0
    boxes[:, 2:] = np.minimum(boxes[:, 2:], [w - last, h - last])
    return boxes


def _largest_component(mask: np.ndarray) -> list:
    """Bounding rectangle of the 8-connected component with most pixels, ``[]`` if none."""
    small = mask.size < 4 * 65535  # at most one component per 2 x 2 pixels
    ltype = cv2.CV_16U if small else cv2.CV_32S
    count, labels = cv2.connectedComponents(mask, connectivity=8, ltype=ltype)
    if count == 1:
        return []
    if count == 2:
        return [cv2.boundingRect(mask)]
    areas = np.bincount(labels.ravel(), minlength=count)[1:]
    ties = np.flatnonzero(areas == areas.max()) + 1
    best = ties[0]
    if len(ties) > 1:  # first in reading order, whatever order the labels came in
        flat = labels.ravel()
        best = min(ties, key=lambda label: np.argmax(flat == label))
    return [cv2.boundingRect((labels == best).view(np.uint8))]


def _contour_rects(mask: np.ndarray, rule: BoxRule) -> list:
    mode = cv2.RETR_LIST if rule.select == 'longest-contour' else cv2.RETR_TREE
    contours = cv2.findContours(mask, mode, cv2.CHAIN_APPROX_SIMPLE)[-2]
    if rule.select == 'longest-contour':
        contours = [c for c in contours if len(c) > rule.min_points]
        contours = [max(contours, key=len)] if contours else []
    elif rule.select == 'largest-contour' and contours:
        contours = [max(contours, key=cv2.contourArea)]
    return [cv2.boundingRect(c) for c in contours]


def boxes_from_maps(
    maps: Tensor | np.ndarray,
    size: Sequence[int],
    rule: str | Mapping | BoxRule = 'gradcam-0.15',
    pool: Executor | None = None,
) -> list[np.ndarray]:
    """Boxes of every map.

    Args:
        maps: ``(N, h, w)`` tensor on any device, or an array.
        size: ``(H, W)`` of the network's input; boxes come out in its pixels.
        rule: Name, mapping or :class:`BoxRule`.
        pool: An executor with ``map`` to spread the host part over threads, or None.

    Returns:
        One array ``(B, 4)`` per map.

    Raises:
        ValueError: ``maps`` does not have three dimensions, or the rule is unknown.
    """
    rule = get_rule(rule)
    maps = torch.as_tensor(maps)
    if maps.dim() != 3:
        raise ValueError(f'maps must have shape (N, h, w), got {tuple(maps.shape)}')
    if maps.shape[0] == 0:
        return []
    masks = masks_from_maps(maps, size, rule).cpu().numpy()
    run = pool.map if pool is not None else map
    return list(run(lambda mask: boxes_from_mask(mask, rule), masks))
