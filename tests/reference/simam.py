"""SimAM (ICML 2021): the minimal energy of each neuron, equation 5, and its gate, equation 6."""

from tests.reference.ops import sigmoid, tensor, zeros


def simam(x, p, training, lam=1e-4):
    num, channels, height, width = x.shape
    out = zeros(*x.shape)
    for n in range(num):
        for c in range(channels):
            neurons = [x[n, c, i, j] for i in range(height) for j in range(width)]
            mean = sum(neurons) / len(neurons)
            rest = max(len(neurons) - 1, 1)
            variance = sum((t - mean) ** 2 for t in neurons) / rest
            for i in range(height):
                for j in range(width):
                    t = x[n, c, i, j]
                    energy = 4 * (variance + lam) / ((t - mean) ** 2 + 2 * variance + 2 * lam)
                    out[n][c][i][j] = t * sigmoid(1 / energy)
    return tensor(out)
