"""The gallery of the page: one image a card, with all that its script needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from PIL import Image

from mmattn.localization.boxes import BoxRule
from mmattn.localization.class_names import class_name
from mmattn.localization.drawing import Overlay, as_data_uri, explain, heat_rgba
from mmattn.localization.localizer import Localizer
from mmattn.localization.slider import pack_map, selection_counts, slider_thresholds
from mmattn.localization.structures import AnnotatedImage, ImageResult

__all__ = ['make_cards', 'verdict']

_PHOTO_SIDE, _HEAT_SIDE = 512, 72


def verdict(box_right: bool, class_right: bool) -> str:
    """Say in words whether the box and the class are right."""
    return ', '.join(
        f'{what} {"right" if right else "wrong"}'
        for what, right in (('box', box_right), ('class', class_right))
    )


def make_cards(
    localizer: Localizer,
    results: Sequence[ImageResult],
    images: Sequence[AnnotatedImage],
    names: Sequence[str],
    iou_thr: float,
    others: Mapping[str, ImageResult] | None = None,
) -> list[dict[str, Any]]:
    """Gallery cards for results, in order; the maps are made again, one image at a time.

    Args:
        localizer: An open one.
        results: The results to show.
        images: The data set.
        names: Class names in label order.
        iou_thr: IoU from which a box is right.
        others: Results of the run beside this one, by key.
    """
    by_key = {p.key: p for p in images}
    return [
        _card(
            localizer, result, by_key[result.key], names, iou_thr, (others or {}).get(result.key)
        )
        for result in results
    ]


def _card(
    localizer: Localizer,
    result: ImageResult,
    image: AnnotatedImage,
    names: Sequence[str],
    iou_thr: float,
    other: ImageResult | None,
) -> dict[str, Any]:
    label = result.label
    overlay = explain(localizer, image.path, label, image.boxes_xyxy, image.size, image.frame)[-1]
    best = result.top5[0] if result.top5 else -1
    card = dict(
        _drawn(overlay),
        key=result.key,
        label=label,
        name=class_name(names, label),
        best_name=class_name(names, best),
        score=result.score if image.boxes_xyxy else result.label_score,
        truth_xyxy=overlay.truth_xyxy,
        shot=_shot(overlay, localizer.settings.rule),
    )
    if image.boxes_xyxy:
        hit, right = result.iou >= iou_thr, best == result.label
        card.update(iou=result.iou, hit=hit, class_right=right, verdict=verdict(hit, right))
    if other is not None:
        card.update(other_boxes=_rects(other.boxes_xyxy), other_iou=other.iou)
        card['other_name'] = class_name(names, other.top5[0] if other.top5 else -1)
    return card


def _drawn(overlay: Overlay) -> dict[str, Any]:
    """Collect what is seen without a script: two embedded images, and rectangles."""
    w, h = overlay.image.size
    x0, y0, x1, y1 = overlay.heat_xyxy
    return dict(
        width=w,
        height=h,
        photo=as_data_uri(overlay.image, max_side=_PHOTO_SIDE),
        heat=as_data_uri(Image.fromarray(heat_rgba(overlay.heat)), 'png', _HEAT_SIDE),
        heat_box=dict(x=x0, y=y0, w=x1 - x0, h=y1 - y0),
        boxes=_rects(overlay.boxes_xyxy),
        truth=_rects(overlay.truth_xyxy),
        stroke=max(w, h) / 90,
    )


def _rects(boxes: Sequence) -> list[dict[str, float]]:
    return [dict(x=b[0], y=b[1], w=b[2] - b[0], h=b[3] - b[1]) for b in boxes]


def _shot(overlay: Overlay, rule: BoxRule) -> dict[str, Any]:
    """Collect what the script finds the boxes from, at every threshold of the slider."""
    size = overlay.geometry.input_size
    counts = selection_counts(overlay.raw, size, rule, slider_thresholds(rule))
    return dict(asdict(overlay.geometry), map=pack_map(counts[0]))
