"""Weakly supervised localization: classifier -> score maps -> boxes -> metrics -> report."""

from mmattn.localization.boxes import RULES, BoxRule, boxes_from_maps, get_rule
from mmattn.localization.cam import METHODS, ScoreMaps
from mmattn.localization.metrics import LocalizationMetrics

__all__ = [
    'METHODS',
    'RULES',
    'BoxRule',
    'LocalizationMetrics',
    'ScoreMaps',
    'boxes_from_maps',
    'get_rule',
]
