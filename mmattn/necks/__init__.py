"""Necks: a tuple of maps in, a tuple of maps out. They need mmdet."""

from mmattn.core.hosts import require_host

require_host('mmdet')

from mmattn.necks.aw_fpn import AWFPN  # noqa: E402

__all__ = ['AWFPN']
