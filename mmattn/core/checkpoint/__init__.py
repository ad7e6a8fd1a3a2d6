"""Checkpoints: one way to read, one report of what fits, and a training that loses none."""

from mmattn.core.checkpoint.reading import find_state, guarded_loading, load_checkpoint
from mmattn.core.checkpoint.report import (
    LoadReport,
    LoadReportHook,
    bad_weights,
    check_pretrained,
    compare,
    load_weights,
)
from mmattn.core.checkpoint.saving import SafeCheckpointHook, newest_checkpoint, register_once

__all__ = [
    'LoadReport',
    'LoadReportHook',
    'SafeCheckpointHook',
    'bad_weights',
    'check_pretrained',
    'compare',
    'find_state',
    'guarded_loading',
    'load_checkpoint',
    'load_weights',
    'newest_checkpoint',
    'register_once',
]
