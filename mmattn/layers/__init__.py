"""Gates: ``(N, C, H, W)`` in, the same shape out; used as a backbone's ``plugins``."""

from mmattn.layers.cbam import CBAM
from mmattn.layers.se import SE

__all__ = ['CBAM', 'SE']
