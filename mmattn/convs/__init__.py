"""Drop-in replacements for ``nn.Conv2d``; used as ``conv_cfg`` or inside a backbone."""

from mmattn.convs.aw_conv import AWConv2d

__all__ = ['AWConv2d']
