"""Small networks the localization tests share."""

import torch
from torch import nn


class Select(nn.Module):
    """Passes the first ``channels`` channels on: the activation is the input itself."""

    def __init__(self, channels):
        super().__init__()
        self.channels = channels

    def forward(self, x):
        return x[:, : self.channels] * 1.0


def gap_net(classes=6, seed=0, bias=True):
    """Convolutions, global average pooling, one linear layer."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 12, 3, 2, 1),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(12, classes, bias=bias),
    )


def mlp_net(classes=6, seed=0):
    """A head that is no average pooling: no closed form."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 12, 3, 2, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(48, 10),
        nn.Tanh(),
        nn.Linear(10, classes),
    )


class Recurrent(nn.Module):
    """Calls one layer three times; what it gives in step t changes step t + 1."""

    def __init__(self, classes=4, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.stem = nn.Conv2d(3, 6, 3, 2, 1)
        self.step = nn.Conv2d(6, 6, 3, 1, 1)
        self.head = nn.Linear(6, classes)

    def forward(self, x):
        x = self.stem(x).relu()
        out = x
        for _ in range(3):
            out = torch.tanh(self.step(out)) + 0.5 * x
        return self.head(out.mean((2, 3)))


def tiny():
    """For ``python:tests.localization.nets:tiny``: four classes, 32 x 32 input."""
    return gap_net(4, seed=3), dict(input_size=(32, 32), mean=[127] * 3, std=[64] * 3)


def tiny_nan():
    """A classifier whose weights hold NaN."""
    net, values = tiny()
    net[3].weight.data[0, 0, 0, 0] = float('nan')
    return net, values


def no_module():
    """Returns something that is no network."""
    return 'resnet'


def unknown_value():
    """Returns preprocessing that does not exist."""
    return gap_net(), dict(sise=224)
