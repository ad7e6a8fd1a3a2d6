"""Small data sets written on the fly."""

import json

import numpy as np
from PIL import Image

SIZES = [(40, 30), (32, 48), (25, 25), (60, 20), (33, 31), (50, 50), (28, 36)]


def image(path, width, height, seed=0, mode='RGB', **options):
    """Writes one noisy image with a bright square."""
    rng = np.random.default_rng(seed)
    array = rng.integers(0, 120, (height, width, 3)).astype(np.uint8)
    array[height // 4 : height // 2, width // 4 : width // 2] = 250
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).convert(mode).save(path, **options)
    return path


def boxes_json(root, count=7):
    """Images ``p0.png`` ... and ``boxes.json``; labels 0 to 3 in turn.

    Returns:
        ``(images folder, annotation file)``.
    """
    items = []
    for i in range(count):
        width, height = SIZES[i % len(SIZES)]
        image(root / 'images' / f'p{i}.png', width, height, i)
        box = [width // 4, height // 4, width // 2, height // 2]
        items.append(dict(file=f'p{i}.png', label=i % 4, width=width, height=height, boxes=[box]))
    path = root / 'boxes.json'
    path.write_text(json.dumps(items))
    return root / 'images', path
