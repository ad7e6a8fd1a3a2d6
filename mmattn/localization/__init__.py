"""Weakly supervised localization: classifier -> score maps -> boxes -> metrics -> report."""

from .boxes import RULES, BoxRule, boxes_from_maps, get_rule
from .cam import METHODS, ScoreMaps
from .metrics import LocalizationMetrics

__all__ = [
    'METHODS',
    'RULES',
    'BoxRule',
    'LocalizationMetrics',
    'ScoreMaps',
    'boxes_from_maps',
    'get_rule',
]
