"""The classifiers that the papers' cost tables count, built from this package's modules."""

from collections.abc import Callable, Mapping
from typing import Any

from mmengine.model import BaseModel
from torch import Tensor, nn

from mmattn.backbones import AttentionResNet, ReportCNN, TDResNet
from mmattn.backbones.td_resnet import PRESETS
from mmattn.registry import MODELS

__all__ = ['Classifier', 'build_network', 'train_with_ssia']

AW = dict(type='mmattn.AWConv2d')
# the report's convolutions (stage, number within it) -> side of the map they give
REPORT_MAPS = {(1, 1): 32, (1, 2): 30, (2, 1): 15, (2, 2): 13}


class Classifier(nn.Module):
    """A backbone, global average pooling and a linear layer.

    Args:
        backbone: gives a tuple, of which the last map or vector is classified.
        width: its channels.
        classes: number of them.

    Shape: as the backbone's input -> ``(N, classes)``.
    """

    def __init__(self, backbone: nn.Module, width: int, classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.backbone(x)[-1]
        return self.fc(self.pool(x).flatten(1) if x.dim() == 4 else x)


def build_network(spec: Mapping[str, Any]) -> nn.Module:
    """Return the network of a row of ``cost_tables.yml``.

    Args:
        spec: ``kind`` (``resnet``, ``mobilenet``, ``wide_resnet``, ``report_cnn``,
            ``three_stages``, ``td_resnet``, ``ssia``) and that kind's own options.

    Raises:
        ValueError: ``kind`` is none of these.
    """
    options = dict(spec)
    kind = options.pop('kind', None)
    if kind not in KINDS:
        raise ValueError(f'kind must be one of {", ".join(KINDS)}, got {kind!r}')
    return KINDS[kind](**options)


def resnet(
    depth: int = 50,
    gate: dict | None = None,
    aw: bool = False,
    classes: int = 1000,
    cifar: bool = False,
    **options: object,
) -> nn.Module:
    """ResNet with a gate before the addition of every block (BAM: after stages 1 to 3).

    Args:
        depth: of the ResNet.
        gate: its config.
        aw: AW-convolutions as the 3x3 of every block.
        classes: 0 for the backbone alone.
        cifar: a 3x3 stem without stride and no pooling.
        options: of ``AttentionResNet``.
    """
    places = dict(position='after_conv3')
    if gate and gate['type'] == 'mmattn.BAM':
        places = dict(position='after_stage', stages=(0, 1, 2))
    rules = [dict(gate=gate, **places)] if gate else []
    conv2 = AW if aw else None
    net = AttentionResNet(depth, attention=rules, conv2=conv2, cifar_stem=cifar, **options)
    return Classifier(net, 2048, classes) if classes else net


def _attended(wrapped: str, rules: list, width: int, classes: int, **options: object) -> nn.Module:
    cfg = dict(type='mmattn.Attend', wrapped=wrapped, attention=rules, **options)
    return Classifier(MODELS.build(cfg), width, classes)


def mobilenet(gate: dict | None = None, aw: bool = False) -> nn.Module:
    """MobileNet with a gate after every convolution, AW in its pointwise ones."""
    rules = [dict(conv=AW, replace=r'.*pointwise_conv\.conv')] if aw else []
    if gate:
        rules.append(dict(gate=gate, after=r'stage.*(depthwise|pointwise)_conv'))
    return _attended('mmattn.MobileNetV1', rules, 1024, 1000)


def wide_resnet(factor: int, aw: str) -> nn.Module:
    """AA-Wide-ResNet-28; ``aw`` says which of its convolutions are AW-convolutions."""
    inside = aw if aw in ('conv', 'qkv', 'out') else 'none'
    rules = [
        dict(
            conv=dict(type='mmattn.AAConv2d', map_size=(size, size), aw=inside),
            replace=f'layer{stage}.*conv1',
        )
        for stage, size in ((1, 32), (2, 16), (3, 8))
    ]
    if aw == 'second':
        rules.append(dict(conv=AW, replace='layer.*conv2'))
    return _attended('mmattn.WideResNet', rules, 64 * factor, 100, widen_factor=factor)


def report_cnn(gate: dict | list | None = None, convs: int | None = None) -> nn.Module:
    """Return the autoencoder report's network.

    Args:
        gate: a config, or a list of them in their order; an option ``'map'`` becomes the side of
            the map the gate gets.
        convs: 1 or 2 for gates after the first or second convolution of a stage only.
    """
    rules = []
    for (stage, conv), side in REPORT_MAPS.items():
        if gate and convs in (None, conv):
            rules.append(dict(gate=_sized(gate, side), after=rf'stage{stage}\.conv{conv}'))
    return _attended('mmattn.ReportCNN', rules, 512, 10, sample=(3, 32, 32))


def _sized(gate: dict | list, side: int) -> dict:
    if isinstance(gate, list):
        return dict(type='mmattn.Sequence', gates=[_sized(each, side) for each in gate])
    return {key: side if value == 'map' else value for key, value in gate.items()}


def three_stages() -> nn.Module:
    """Return the report's network with the third stage that its code makes and never runs."""
    return Classifier(ReportCNN(idle_stage=True), 512, 10)


def td_resnet(preset: str) -> nn.Module:
    """Return a top-down ResNet by the name of its preset."""
    options = PRESETS[preset]
    width = 512 if options['depth'] < 50 else 2048
    return Classifier(TDResNet(**options), width, 1000)


class _Network(BaseModel):
    """ResNet-50 as a model that SSIA can be put around."""

    def __init__(self, data_preprocessor: dict | None = None) -> None:
        super().__init__(data_preprocessor)
        self.backbone = AttentionResNet(50)

    def forward(
        self, inputs: Tensor, data_samples: list | None = None, mode: str = 'tensor'
    ) -> tuple[Tensor, ...]:
        return self.backbone(inputs)


def train_with_ssia() -> nn.Module:
    """ResNet-50 as it is trained with SSIA, its predictors in ``ssia``."""
    return MODELS.build(dict(type='mmattn.SSIA', model=dict(type=_Network), taps=(0, 1, 2, 3)))


def _deployed_after_ssia() -> nn.Module:
    deployed = _Network()
    deployed.load_state_dict(train_with_ssia().state_dict(), strict=True)
    return deployed


KINDS: dict[str, Callable[..., nn.Module]] = {
    'resnet': resnet,
    'mobilenet': mobilenet,
    'wide_resnet': wide_resnet,
    'report_cnn': report_cnn,
    'three_stages': three_stages,
    'td_resnet': td_resnet,
    'ssia': _deployed_after_ssia,
}
