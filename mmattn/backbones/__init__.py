"""Backbones with attention where no slot of the host reaches. They need mmdet."""

from mmattn import require_host

require_host('mmdet')

from mmattn.backbones.attend import Attend  # noqa: E402
from mmattn.backbones.attention_resnet import AttentionResNet  # noqa: E402

__all__ = ['Attend', 'AttentionResNet']
