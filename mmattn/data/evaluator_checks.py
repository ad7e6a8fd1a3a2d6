"""What the evaluators of a config read on their own, and whether it fits the data."""

import inspect
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import METRICS

from mmattn.data.coco_checks import check_evaluated_file
from mmattn.data.fields import EVALUATOR, MASKS

__all__ = ['check_evaluator', 'evaluated_files']


def _evaluators(cfg: Config, split: str) -> Iterator[tuple[str, Mapping]]:
    """Each evaluator that names a local annotation file, and that file."""
    evaluators = cfg.get(f'{split}_evaluator') or []
    for evaluator in evaluators if isinstance(evaluators, list | tuple) else [evaluators]:
        ann_file = evaluator.get('ann_file') if isinstance(evaluator, Mapping) else None
        if isinstance(ann_file, str) and '://' not in ann_file:
            yield ann_file, evaluator


def evaluated_files(cfg: Config, split: str) -> dict[str, set[str]]:
    """Find the files that COCO metrics read on their own.

    Returns:
        ``{absolute path: what reads it}``, in the words of :mod:`mmattn.data.fields`.
    """
    try:
        from mmdet.evaluation import CocoMetric, LVISMetric
    except ImportError:
        return {}
    files: dict[str, set[str]] = {}
    for ann_file, evaluator in _evaluators(cfg, split):
        kind = evaluator.get('type')
        with METRICS.switch_scope_and_registry(cfg.get('default_scope') or 'mmengine') as registry:
            kind = registry.get(kind) if isinstance(kind, str) else kind
        reads = inspect.isclass(kind) and issubclass(kind, CocoMetric)
        if reads and not issubclass(kind, LVISMetric) and not evaluator.get('format_only'):
            readers = files.setdefault(os.path.abspath(ann_file), set())
            readers.add(EVALUATOR)
            if 'segm' in evaluator.get('metric', 'bbox'):
                readers.add(MASKS)
    return files


def check_evaluator(
    cfg: Config, split: str, files: dict[str, set[str]], classes: list[str], image_ids: set
) -> list[str]:
    """Check the annotation files of the evaluators that are not the data set's own.

    Args:
        cfg: The whole config.
        split: ``'val'`` or ``'test'``.
        files: The files of :func:`evaluated_files` that no data set reads.
        classes: The data set's classes.
        image_ids: The ids of its images, if it is COCO's layout.

    Raises:
        FileNotFoundError: A file does not exist.
        ValueError: A file cannot be used, or lacks images.
    """
    notes = []
    for ann_file, _ in _evaluators(cfg, split):
        where = f'{split}_evaluator.ann_file'
        data = cfg.get(f'{split}_dataloader', {}).get('dataset', {})
        own = os.path.join(data.get('data_root') or '', data.get('ann_file') or '')
        if not Path(ann_file).is_file():
            raise FileNotFoundError(
                f'{where}: {ann_file} does not exist; the data set reads {own}: give the '
                f'evaluator the same, --cfg-options {where}={own}'
            )
        path = os.path.abspath(ann_file)
        if data.get('ann_file') and os.path.abspath(own) != path:
            notes.append(
                f'{split}: images come from {own}, but are judged by {ann_file} ({where})'
            )
        if path in files:
            content = check_evaluated_file(ann_file, where, files[path], classes)
            absent = image_ids - {image['id'] for image in content.images}
            if absent:
                raise ValueError(
                    f'{where}: {ann_file} lacks {len(absent)} of the {len(image_ids)} images of '
                    f'{own}, such as id {min(absent)}: pycocotools refuses their results'
                )
    return notes
