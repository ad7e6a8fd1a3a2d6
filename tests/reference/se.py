"""Squeeze-and-Excitation (arXiv 1709.01507, equations 2 to 4)."""

from tests.reference.ops import global_mean, linear, relu, sigmoid


def se(x, p, training):
    squeezed = global_mean(x)
    hidden = relu(linear(squeezed, p['fc1.weight'], p.get('fc1.bias')))
    scale = sigmoid(linear(hidden, p['fc2.weight'], p.get('fc2.bias')))
    return x * scale[:, :, None, None]
