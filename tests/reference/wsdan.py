"""WS-DAN (arXiv 1901.09891) in loops: pooling, centres, boxes, crops and drops."""

import math

import torch


def bilinear_attention_pooling(features, attention):
    count, channels, height, width = features.shape
    maps = attention.shape[1]
    rows = []
    for n in range(count):
        values = []
        for k in range(maps):
            for c in range(channels):
                total = 0.0
                for y in range(height):
                    for x in range(width):
                        total = total + attention[n, k, y, x] * features[n, c, y, x]
                mean = total / (height * width)
                values.append(torch.sign(mean) * torch.sqrt(torch.abs(mean) + 1e-12))
        row = torch.stack(values)
        rows.append(row / torch.sqrt((row**2).sum()))
    return torch.stack(rows)


def centre_step(centres, pooled, labels, beta):
    """The loss, and the centres after it; every image moves its class's centre."""
    moved = centres.clone()
    loss = 0.0
    for n, label in enumerate(labels):
        length = torch.sqrt((centres[label] ** 2).sum())
        unit = centres[label] / length if length > 0 else centres[label]
        loss = loss + ((pooled[n] - unit) ** 2).sum() / len(labels)
        moved[label] += beta * (pooled[n].detach() - unit)
    return loss, moved


def resize(image, height, width):
    """Bilinear, half-pixel centres, edges repeated: ``(C, h, w) -> (C, height, width)``."""
    channels, old_height, old_width = image.shape
    out = image.new_zeros(channels, height, width)
    for y in range(height):
        for x in range(width):
            sy = max((y + 0.5) * old_height / height - 0.5, 0)
            sx = max((x + 0.5) * old_width / width - 0.5, 0)
            y0, x0 = int(sy), int(sx)
            y1, x1 = min(y0 + 1, old_height - 1), min(x0 + 1, old_width - 1)
            fy, fx = sy - y0, sx - x0
            top = image[:, y0, x0] * (1 - fx) + image[:, y0, x1] * fx
            bottom = image[:, y1, x0] * (1 - fx) + image[:, y1, x1] * fx
            out[:, y, x] = top * (1 - fy) + bottom * fy
    return out


def box(attention, share, height, width, margin):
    large = resize(attention[None], height, width)[0]
    rows, columns = [], []
    for y in range(height):
        for x in range(width):
            if large[y, x] >= share * large.max():
                rows.append(y)
                columns.append(x)
    return (
        max(math.floor(min(columns) - margin * width), 0),
        max(math.floor(min(rows) - margin * height), 0),
        min(math.floor(max(columns) + 1 + margin * width), width),
        min(math.floor(max(rows) + 1 + margin * height), height),
    )


def crop(image, attention, share, margin):
    _, height, width = image.shape
    x0, y0, x1, y1 = box(attention, share, height, width, margin)
    return resize(image[:, y0:y1, x0:x1], height, width)


def drop(image, attention, share):
    _, height, width = image.shape
    large = resize(attention[None], height, width)[0]
    out = image.clone()
    for y in range(height):
        for x in range(width):
            if large[y, x] >= share * large.max() and large.max() > 0:
                out[:, y, x] = 0
    return out
