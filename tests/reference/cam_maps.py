"""Score maps the slow way: one image, one class, one plain backward pass and loops.

Written from the papers; shares no code with ``mmattn``.
"""

import torch


def slow_map(model, layer, image, label, method):
    """Map ``(h, w)`` of one class for one image ``(3, H, W)``."""
    kept = {}

    def keep(_, __, output):
        output.retain_grad()
        kept['act'] = output

    handle = layer.register_forward_hook(keep)
    try:
        score = model(image[None].clone().requires_grad_())[0, label]
    finally:
        handle.remove()
    kept['act'].retain_grad()
    score.backward()
    act, grad = kept['act'].detach()[0], kept['act'].grad[0]
    channels, height, width = act.shape
    total = torch.zeros(height, width, dtype=act.dtype)
    for k in range(channels):
        if method == 'gradcam':
            total += grad[k].sum() / (height * width) * act[k]
        elif method == 'gradcam++':
            weight = 0.0
            for i in range(height):
                for j in range(width):
                    g = float(grad[k, i, j])
                    bottom = 2 * g**2 + float(act[k].sum()) * g**3
                    alpha = 0.0 if bottom == 0 else g**2 / bottom
                    weight += alpha * max(g, 0.0)
            total += weight * act[k]
        elif method == 'layercam':
            total += grad[k].clamp(min=0) * act[k]
        elif method == 'hirescam':
            total += grad[k] * act[k]
        else:
            raise ValueError(method)
    return total.clamp(min=0)
