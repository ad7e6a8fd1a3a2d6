"""One call puts any method into any config of mmdet or mmpretrain."""

from mmattn.core.hosts import host_problem

if host_problem('mmdet') and host_problem('mmpretrain'):
    raise ImportError(host_problem('mmdet'))

from mmattn.insertion.from_classifier import detector_config, detector_start
from mmattn.insertion.insert import add_attention, read_config
from mmattn.insertion.leaf import is_lazy, leaf_text
from mmattn.insertion.methods import method_list
from mmattn.insertion.report import Report, report
from mmattn.insertion.unread import unread_gates
from mmattn.insertion.warm_start import largest_difference, start_of, warm_start

__all__ = [
    'Report',
    'add_attention',
    'detector_config',
    'detector_start',
    'is_lazy',
    'largest_difference',
    'leaf_text',
    'method_list',
    'read_config',
    'report',
    'start_of',
    'unread_gates',
    'warm_start',
]
