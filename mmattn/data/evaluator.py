"""What the model and the evaluator of a config say about the data."""

import os
from collections.abc import Mapping
from pathlib import Path

__all__ = ['check_evaluator', 'check_num_classes']


def check_num_classes(cfg, dataset, where: str) -> list[str]:
    """Compare the classes of the data with those of the box head."""
    model = cfg.get('model') or {}
    model = model.get('model', model)  # a wrapper's own entry is the model inside
    heads = (model.get('roi_head') or {}).get('bbox_head') or model.get('bbox_head') or {}
    classes = dataset.metainfo.get('classes')
    for head in heads if isinstance(heads, list | tuple) else [heads]:
        number = head.get('num_classes')
        if not isinstance(number, int) or not isinstance(classes, list | tuple):
            continue
        said = f'{where} has {len(classes)} classes, the model num_classes={number}'
        if number < len(classes):
            raise ValueError(f'{said}: set num_classes of every box head to {len(classes)}')
        if number > len(classes):
            return [f'{said}: {number - len(classes)} outputs can never be right']
    return []


def check_evaluator(cfg, split: str) -> list[str]:
    """The evaluator names its annotation file on its own; find one that was forgotten."""
    evaluators = cfg.get(f'{split}_evaluator') or []
    notes = []
    for evaluator in evaluators if isinstance(evaluators, list | tuple) else [evaluators]:
        ann_file = evaluator.get('ann_file') if isinstance(evaluator, Mapping) else None
        if not isinstance(ann_file, str) or '://' in ann_file:
            continue
        data = cfg.get(f'{split}_dataloader', {}).get('dataset', {})
        own = os.path.join(data.get('data_root') or '', data.get('ann_file') or '')
        if not Path(ann_file).is_file():
            raise FileNotFoundError(
                f'{split}_evaluator.ann_file: {ann_file} does not exist; the data set reads '
                f'{own}: give the evaluator the same, --cfg-options '
                f'{split}_evaluator.ann_file={own}'
            )
        if data.get('ann_file') and os.path.abspath(own) != os.path.abspath(ann_file):
            notes.append(
                f'{split}: pictures come from {own}, but are judged by {ann_file} '
                f'({split}_evaluator.ann_file)'
            )
    return notes
