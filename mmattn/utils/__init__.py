"""What the tools share: data checks, checkpoint reports, the command line, fusing.

Nothing is imported here, so that each tool loads only the part it needs; ``fuse`` is when it is
asked for.
"""

__all__ = ['fuse']


def __getattr__(name: str):
    if name == 'fuse':
        from mmattn.utils.fusion import fuse

        return fuse
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
