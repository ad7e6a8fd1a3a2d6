"""One way to put a class of ours in front of the class of a built host object.

The result *is* the host's object: an instance of its class and of ours, with its attributes and
its names in a checkpoint. The joint class is made on demand, so copying and pickling go by the
two classes it is made of.
"""

from functools import cache
from typing import Any

__all__ = ['Front']


class Front:
    """Base of a class that goes in front of a host's: ``Ours.in_front_of(built)``.

    Attributes:
        _host_class: The host's class, the next after ours.
    """

    _front_class: type
    _host_class: type

    @classmethod
    def in_front_of(cls, host: Any) -> Any:
        """Make an object an instance of this class too, in place; calls no ``__init__``.

        Args:
            host: The built object.

        Returns:
            The same object, whose methods are now looked up here first.
        """
        host.__class__ = _joint(cls, type(host))
        return host

    def __reduce_ex__(self, protocol: int) -> tuple:
        """Copy and pickle by the classes in front and the host's own."""
        fronts, host = [], type(self)
        while '_front_class' in vars(host):
            fronts.append(host._front_class)
            host = host._host_class
        return _bare, (host, *reversed(fronts)), self.__dict__


@cache
def _joint(front: type, host: type) -> type:
    """Return the class with ``front`` before ``host``, the same one whenever asked."""
    body = dict(
        _front_class=front,
        _host_class=host,
        __module__=front.__module__,
        __doc__=front.__doc__,
    )
    return type(host)(f'{front.__name__}{host.__name__}', (front, host), body)


def _bare(host: type, *fronts: type) -> Front:
    """Return an empty instance for ``copy`` and ``pickle`` to fill."""
    for front in fronts:
        host = _joint(front, host)
    return object.__new__(host)
