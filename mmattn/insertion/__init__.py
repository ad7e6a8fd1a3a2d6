"""One call puts any method into any config of mmdet or mmpretrain."""

from mmattn.insertion.insert import add_attention
from mmattn.insertion.report import Report, report

__all__ = ['Report', 'add_attention', 'report']
