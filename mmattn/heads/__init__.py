"""Heads: classifiers that read several depths (mmpretrain), and SSD's repaired one (mmdet)."""

from mmattn.core.hosts import explain_missing, require_host

_HOSTS = {
    'LearnToPayHead': 'mmpretrain',
    'ReportHead': 'mmpretrain',
    'SSDHead': 'mmdet',
    'WSDANHead': 'mmpretrain',
}
_problems = {}

try:
    require_host('mmpretrain')
except ImportError as error:
    _problems['mmpretrain'] = error
else:
    from mmattn.heads.learn_to_pay_head import LearnToPayHead
    from mmattn.heads.report_head import ReportHead
    from mmattn.heads.wsdan_head import WSDANHead

try:
    require_host('mmdet')
except ImportError as error:
    _problems['mmdet'] = error
else:
    from mmattn.heads.ssd_head import SSDHead

__all__ = ['LearnToPayHead', 'ReportHead', 'SSDHead', 'WSDANHead']


__getattr__ = explain_missing(__name__, _HOSTS, _problems)
