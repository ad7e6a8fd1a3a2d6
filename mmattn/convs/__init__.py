"""Drop-in replacements for ``nn.Conv2d``; used as ``conv_cfg`` or inside a backbone."""

from mmattn.convs.aa_conv import AAConv2d
from mmattn.convs.aw_conv import AWConv2d

__all__ = ['AAConv2d', 'AWConv2d']
