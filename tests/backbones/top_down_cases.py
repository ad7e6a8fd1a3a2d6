"""What the tests of the top-down networks share."""

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.pooling import _AdaptiveAvgPoolNd, _MaxPoolNd

OPTIONS = ('steps', 'distance', 'attention', 'reduction', 'operation', 'init')


def make_block(cls, *args, **options):
    """A top-down block, converted from one of its host that is built from all other arguments."""
    ours = {key: options.pop(key) for key in OPTIONS if key in options}
    return cls.convert(cls.__bases__[-1](*args, **options), **ours)


def count_parameters(*modules):
    return sum(p.numel() for module in modules for p in module.parameters())


class Classifier(nn.Module):
    """A backbone with global pooling and a linear layer, as in the paper's table 1."""

    def __init__(self, backbone, channels):
        super().__init__()
        self.backbone = backbone
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, 1000)

    def forward(self, x):
        return self.fc(self.pool(self.backbone(x)[-1]).flatten(1))


def count_gmacs(model, size=224, only_macs=False):
    """The rule of ptflops 0.6, which the authors used: multiply-accumulates and biases of
    convolutions and linear layers, 2 for each element of a norm, 1 of a ReLU, 1 for each input
    element of a pool; functional code counts nothing. With ``only_macs`` only the products of the
    first two. Works on the meta device.
    """
    total = 0

    def hook(module, inputs, out):
        nonlocal total
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            bias = module.bias is not None and not only_macs
            total += out.numel() * (module.weight[0].numel() + bias)
        elif only_macs:
            return
        elif isinstance(module, _BatchNorm):
            total += 2 * out.numel()
        elif isinstance(module, nn.ReLU):
            total += out.numel()
        else:
            total += inputs[0].numel()

    kinds = (nn.Conv2d, nn.Linear, _BatchNorm, nn.ReLU, _AdaptiveAvgPoolNd, _MaxPoolNd)
    handles = [m.register_forward_hook(hook) for m in model.modules() if isinstance(m, kinds)]
    model.eval()
    with torch.no_grad():
        model(torch.empty(1, 3, size, size, device=next(model.parameters()).device))
    for handle in handles:
        handle.remove()
    return total / 1e9


def gradients(net, x, weight_seed=3):
    """Gradient of every parameter for a loss on all maps."""
    net.zero_grad()
    torch.manual_seed(weight_seed)
    sum((out * torch.randn_like(out)).sum() for out in net(x)).backward()
    return {name: p.grad for name, p in net.named_parameters() if p.requires_grad}
