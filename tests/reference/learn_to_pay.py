"""Learn to pay attention (arXiv 1804.02391): compatibility (learned or dot product), sum."""

import torch

from tests.reference.ops import conv2d, global_mean, linear, softmax


def learn_to_pay(local, context, p):
    """``(N, C_l, H, W), (N, C_g) -> (N, C_g)``."""
    if 'proj.weight' in p:
        local = conv2d(local, p['proj.weight'])
    rows = []
    for image, g in zip(local, context):
        positions, weights = weigh(image, g, p.get('score.weight'))
        rows.append(sum(a * image[:, i, j] for a, (i, j) in zip(weights, positions)))
    return torch.stack(rows)


def weigh(image, g, u):
    """Positions of ``(C, H, W)`` and their weights: learned with ``u``, else by products."""
    positions = [(i, j) for i in range(image.shape[1]) for j in range(image.shape[2])]
    if u is not None:
        scores = [(u.flatten() * (image[:, i, j] + g)).sum() for i, j in positions]
    else:
        scores = [(image[:, i, j] * g).sum() for i, j in positions]
    return positions, softmax(scores)


def learn_to_pay_gate(x, p):
    """``(N, C, H, W) -> (N, C, H, W)``: weights of the map with its own mean, times positions."""
    rows = []
    for image, g in zip(x, global_mean(x)):
        positions, weights = weigh(image, g, p.get('weigh.score.weight'))
        columns = [len(positions) * a * image[:, i, j] for a, (i, j) in zip(weights, positions)]
        rows.append(torch.stack(columns, 1).view_as(image))
    return torch.stack(rows)


def learn_to_pay_head(maps, p):
    """Class scores from one linear layer on all summaries side by side."""
    context = global_mean(maps[-1])
    parts = []
    for index, local in enumerate(maps[:-1]):
        prefix = f'attention.{index}.'
        own = {k.removeprefix(prefix): v for k, v in p.items() if k.startswith(prefix)}
        parts.append(learn_to_pay(local, context, own))
    return linear(torch.cat(parts, 1), p['classifier.weight'], p['classifier.bias'])
