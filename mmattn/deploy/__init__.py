"""Making a trained network ready for use."""

from mmattn.deploy.export import KINDS, ExportedPart, difference, export, load_exported
from mmattn.deploy.fusion import fuse

__all__ = ['KINDS', 'ExportedPart', 'difference', 'export', 'fuse', 'load_exported']
