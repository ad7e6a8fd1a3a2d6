"""A small model of mmengine's kind, and the hosts' own."""

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from torch import nn
from torch.utils.checkpoint import checkpoint


class Stage(nn.Module):
    def __init__(self, inputs, outputs, with_cp, kernel_size):
        super().__init__()
        self.conv = nn.Conv2d(
            inputs, outputs, kernel_size, stride=2, padding=(kernel_size - 1) // 2
        )
        self.bn = nn.BatchNorm2d(outputs)
        self.with_cp = with_cp

    def forward(self, x):
        def inner(x):
            return self.bn(self.conv(x))

        x = checkpoint(inner, x, use_reentrant=True) if self.with_cp else inner(x)
        return F.relu(x, inplace=True)


class Backbone(nn.Module):
    def __init__(self, with_cp, kernel_size):
        super().__init__()
        widths = (4, 6, 8, 10)
        self.res_layers = []
        for number, (inputs, outputs) in enumerate(zip((3, *widths), widths)):
            self.res_layers.append(f'layer{number + 1}')
            self.add_module(self.res_layers[-1], Stage(inputs, outputs, with_cp, kernel_size))

    def forward(self, x):
        for name in self.res_layers:
            x = getattr(self, name)(x)
        return x


@MODELS.register_module(force=True)
class ToyClassifier(BaseModel):
    """Four stages of stride 2 and a linear layer, 5 classes."""

    def __init__(self, with_cp=False, kernel_size=3, data_preprocessor=None, init_cfg=None):
        super().__init__(data_preprocessor, init_cfg)
        self.backbone = Backbone(with_cp, kernel_size)
        self.head = nn.Linear(10, 5)

    def extract_feat(self, inputs):
        return self.backbone(inputs)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        scores = self.head(self.extract_feat(inputs).mean((2, 3)))
        if mode == 'loss':
            if isinstance(data_samples, list):
                data_samples = torch.tensor([sample.label for sample in data_samples])
            return dict(loss=F.cross_entropy(scores, data_samples))
        return scores.argmax(1) if mode == 'predict' else scores


TOY = dict(type='ToyClassifier')
OPTIONS = dict(type='mmattn.SSIA', taps=(0, 1, 2, 3), sample=(3, 32, 32))


def batch(num=6, size=(32, 32), seed=0):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(num, 3, *size, generator=generator)
    return inputs, torch.randint(5, (num,), generator=generator)


def build(cfg=TOY, seed=0, **options):
    """The wrapped model and the plain one, with the same weights."""
    torch.manual_seed(seed)
    model = MODELS.build({**OPTIONS, 'model': cfg, **options})
    plain = MODELS.build(cfg)
    plain.load_state_dict(model.state_dict(), strict=True)
    return model, plain
