"""Images to look at: a score map over its image, with predicted and true boxes."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from mmattn.localization.boxes import boxes_from_maps, upsample
from mmattn.localization.images import read_in_frame
from mmattn.localization.localizer import Localizer
from mmattn.localization.structures import Geometry

__all__ = ['Overlay', 'as_data_uri', 'draw', 'explain', 'heat_rgba']

TRUE_COLOUR, BOX_COLOUR, HALO = '#ffffff', '#ff2d87', '#101828'


@dataclass(frozen=True)
class Overlay:
    """One image with what was found in it.

    Args:
        image: RGB image.
        heat: Map stretched to 0..1, at input size ``(H, W)``.
        heat_xyxy: Where the map lies in the image (all of it, unless the centre was cut out).
        boxes_xyxy: Predicted boxes in image pixels.
        truth_xyxy: True boxes in image pixels, may be empty.
        label: Class whose map this is.
        score: Its softmax probability.
        raw: The map itself, ``(1, h, w)``, as the rule gets it.
        geometry: How pixels of the network's input relate to those of the image.
    """

    image: Image.Image
    heat: np.ndarray
    heat_xyxy: tuple
    boxes_xyxy: tuple
    truth_xyxy: tuple
    label: int
    score: float
    raw: Tensor | None = None
    geometry: Geometry | None = None


def explain(
    localizer: Localizer,
    path: str | Path,
    label: int | None = None,
    truth_xyxy: Sequence = (),
    size: tuple[int, int] | None = None,
    frame: str | None = None,
) -> list[Overlay]:
    """Make the overlays of one image: one for each step where the target has several maps.

    Args:
        localizer: An open one.
        path: Image file.
        label: Class to explain, or None for the best one.
        truth_xyxy: True boxes in image pixels.
        size: Annotated ``(height, width)``, or None.
        frame: See :func:`~mmattn.localization.images.read_in_frame`.

    Raises:
        ValueError: The image cannot be decoded.
    """
    image = read_in_frame(path, size, frame)
    array, geometry = localizer.classifier.preprocess.apply(image)
    x = localizer.to_input(torch.from_numpy(array.copy())[None])
    out = localizer.maps(x, lambda scores: _ask(scores, label))
    rule = localizer.settings.rule
    label = int(out.classes[0, 0])
    score = float(out.logits.float().softmax(1)[0, label])
    whole = geometry.to_image([[0, 0, *geometry.input_size[::-1]]])[0]
    overlays = []
    for maps in out.maps.reshape(-1, 1, *out.maps.shape[-2:]):
        heat = upsample(maps.clamp(min=0), geometry.input_size, rule)[0].cpu().numpy()
        heat = heat.clip(min=0) / max(float(heat.max()), 1e-12)
        boxes = geometry.to_image(boxes_from_maps(maps, geometry.input_size, rule)[0])
        boxes, truth = boxes.tolist(), [list(b) for b in truth_xyxy]
        overlays.append(
            Overlay(image, heat, tuple(whole), boxes, truth, label, score, maps, geometry)
        )
    return overlays


def _ask(scores: Tensor, label: int | None) -> Tensor:
    if label is None:
        return scores.argmax(1, keepdim=True)
    return torch.full((len(scores), 1), label, device=scores.device)


def heat_rgba(heat: np.ndarray, strength: float = 0.6) -> np.ndarray:
    """Turn a map into colour with transparency: nothing where it is zero.

    Shape: ``(H, W)`` in 0..1 -> ``(H, W, 4)`` uint8.
    """
    colour = cv2.applyColorMap((heat * 255).astype(np.uint8), cv2.COLORMAP_TURBO)[..., ::-1]
    alpha = (strength * 255 * heat**0.75).astype(np.uint8)
    return np.dstack([colour, alpha])


def draw(*overlays: Overlay, max_side: int = 900) -> Image.Image:
    """Put the image beside itself with map and boxes, once for each of its overlays.

    Returns:
        An RGB ``PIL.Image``.
    """
    w, h = overlays[0].image.size
    factor = min(max_side / max(w, h), 1.0) if max(w, h) > 300 else 300 / max(w, h)
    new = (max(round(w * factor), 1), max(round(h * factor), 1))
    plain = overlays[0].image.resize(new, Image.BICUBIC)
    panels = [plain, *(_marked(plain, overlay, factor) for overlay in overlays)]
    row = Image.new('RGB', (len(panels) * (new[0] + 8) - 8, new[1]), 'white')
    for number, panel in enumerate(panels):
        row.paste(panel, (number * (new[0] + 8), 0))
    return row


def _marked(plain: Image.Image, overlay: Overlay, factor: float) -> Image.Image:
    x0, y0, x1, y1 = (round(v * factor) for v in overlay.heat_xyxy)
    heat = Image.fromarray(heat_rgba(overlay.heat)).resize((x1 - x0, y1 - y0), Image.BILINEAR)
    shown = plain.copy()
    shown.paste(heat, (x0, y0), heat)
    pen = ImageDraw.Draw(shown)
    width = max(2, round(max(plain.size) / 160))
    for boxes, colour in ((overlay.truth_xyxy, TRUE_COLOUR), (overlay.boxes_xyxy, BOX_COLOUR)):
        for box in boxes:
            corners = [round(v * factor) for v in box]
            corners[2:] = [max(corners[2] - 1, corners[0]), max(corners[3] - 1, corners[1])]
            around = [corners[0] - 1, corners[1] - 1, corners[2] + 1, corners[3] + 1]
            pen.rectangle(around, outline=HALO, width=width + 2)
            pen.rectangle(corners, outline=colour, width=width)
    return shown


def as_data_uri(image: Image.Image, kind: str = 'jpeg', max_side: int = 320) -> str:
    """Write an image as text that a page can hold inside itself."""
    w, h = image.size
    factor = min(max_side / max(w, h), 1.0)
    image = image.resize((max(round(w * factor), 1), max(round(h * factor), 1)), Image.BICUBIC)
    buffer = io.BytesIO()
    image.save(buffer, kind, **({'quality': 82} if kind == 'jpeg' else {'optimize': True}))
    return f'data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}'
