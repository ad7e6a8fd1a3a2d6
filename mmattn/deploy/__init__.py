"""Making a trained network ready for use."""

from mmattn.deploy.fusion import fuse

__all__ = ['fuse']
