"""The images of the README: what the demo's detector found, and what its classifier localized."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import pyplot
from mmengine.fileio import load
from PIL import Image

from mmattn.analysis.sheets import overlap, show_boxes, surest, truth_of
from mmattn.core.text import read_json
from mmattn.localization.boxes import get_rule
from mmattn.localization.classifiers import load_classifier
from mmattn.localization.drawing import Overlay, explain, heat_rgba
from mmattn.localization.localizer import Localizer, Settings

__all__ = ['draw_detections', 'draw_localizations', 'draw_showcase']

ENLARGED = 8  # the scenes of the classifier are 32 pixels wide


def draw_showcase(demo: Path, folder: Path, scenes: Sequence[int]) -> None:
    """Write ``demo.webp``, what the demo found, and ``localizations.webp``, its lower half.

    Args:
        demo: the work dir of the demo.
        folder: where to.
        scenes: which of the validation scenes of the detector, from 1.

    Raises:
        FileNotFoundError: the demo left not all that is drawn.
    """
    for name in ('detection/predictions.pkl', 'localization/result/run.json'):
        if not (demo / name).is_file():
            raise FileNotFoundError(f'demo: {demo / name} does not exist; `make demo` writes it')
    top, below = draw_detections(demo, scenes), draw_localizations(demo)
    both = Image.new('RGB', (top.width, top.height + below.height), 'white')
    both.paste(top, (0, 0))
    both.paste(below, (0, top.height))
    folder.mkdir(parents=True, exist_ok=True)
    both.save(folder / 'demo.webp', quality=85)
    below.save(folder / 'localizations.webp', quality=85)


def draw_detections(demo: Path, scenes: Sequence[int]) -> Image.Image:
    """Draw what the detector of ``make demo`` found in scenes that it did not train on.

    Args:
        demo: the work dir of the demo.
        scenes: which of the validation scenes, from 1.
    """
    truth, names = truth_of(demo / 'digits/annotations/instances_val.json')
    found = load(demo / 'detection/predictions.pkl')
    figure, axes = pyplot.subplots(1, len(scenes), figsize=(12, 3.1), layout='constrained')
    for scene, place in zip((found[number - 1] for number in scenes), axes):
        boxes = []
        for label, box, score in surest(scene['pred_instances']):
            right = any(n == label and overlap(box, b) >= 0.5 for n, b in truth[scene['img_id']])
            boxes.append((f'{names[label]} {score:.2f}', box, 'tab:green' if right else 'tab:red'))
        show_boxes(place, '', pyplot.imread(scene['img_path']), boxes)
        place.axis('off')
    return _as_image(figure)


def draw_localizations(demo: Path, images: int = 8) -> Image.Image:
    """Draw where the classifier of ``make demo`` looked, and the box that this gives.

    Args:
        demo: the work dir of the demo.
        images: of so many classes, the first image of each.
    """
    settings = Settings(cam='layercam', rule=get_rule('gradcam-0.50'))  # as the demo
    model = read_json(demo / 'localization/result/run.json')['model']
    classifier = load_classifier(model, str(demo / 'localization/classifier.pth'))
    figure, axes = pyplot.subplots(1, images, figsize=(12, 1.6), layout='constrained')
    folders = sorted((demo / 'one_digit/val').iterdir())[:images]
    with Localizer(classifier, settings, 'cpu') as localizer:
        for place, group in zip(axes, folders):
            overlay = explain(localizer, sorted(group.glob('*.jpg'))[0])[0]
            _show_map(place, overlay, classifier.classes)
    return _as_image(figure)


def _show_map(axes: pyplot.Axes, overlay: Overlay, names: Sequence[str]) -> None:
    """Draw an image with its map and boxes, every pixel as large as it has to be."""
    size = tuple(ENLARGED * side for side in overlay.image.size)
    image = overlay.image.resize(size, Image.BICUBIC)
    heat = Image.fromarray(heat_rgba(overlay.heat, 0.45)).resize(size, Image.BILINEAR)
    image.paste(heat, (0, 0), heat)
    label = f'{names[overlay.label]} {overlay.score:.2f}'
    boxes = [(label, [ENLARGED * v for v in box], 'tab:purple') for box in overlay.boxes_xyxy]
    show_boxes(axes, '', np.asarray(image), boxes)
    axes.axis('off')


def _as_image(figure: pyplot.Figure) -> Image.Image:
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110)
    pyplot.close(figure)
    return Image.open(buffer).convert('RGB')
