"""Accuracy of a classifier at each of its steps, at the most confident one, and of their union."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.evaluator import BaseMetric

from mmattn.core.text import write_text
from mmattn.registry import METRICS

__all__ = ['StepAccuracy']


@METRICS.register_module()
class StepAccuracy(BaseMetric):
    """Top-k accuracy of ``mmattn.StepClassifier``, in percent, by every rule.

    ``step_1_top1``, ``step_2_top1``, ...: each step alone; ``confident_top1``: each image's most
    confident step; ``union_top1`` (where the model has ``rule='union'``): right if any kept step
    is, which is no plain accuracy; ``union_several``: images for which steps of several classes
    were kept.

    Paper: TDAM, ECCV 2022, arXiv 2111.13470; the union is the authors' evaluation code.

    Args:
        topk: the k's.
        file: JSON file to write, in the form of the ``steps.json`` of ``tools/localize.py
            --steps all``: fractions, without boxes. None: no file.
        kwargs: of mmengine's ``BaseMetric``.

    Raises:
        ValueError: a k below 1; predictions without steps (the model is no ``StepClassifier``).
    """

    default_prefix = 'steps'

    def __init__(self, topk: Sequence[int] = (1, 5), file: str | None = None, **kwargs) -> None:
        super().__init__(**kwargs)
        self.topk = tuple(topk)
        if not self.topk or min(self.topk) < 1:
            raise ValueError(f'topk must be whole numbers >= 1, got {topk}')
        self.file = file

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep of every image what the rules need.

        Args:
            data_batch: not read.
            data_samples: predictions with ``step_scores`` and ``gt_label``.
        """
        for sample in data_samples:
            if 'step_scores' not in sample:
                raise ValueError(
                    'StepAccuracy needs the steps: test with model.type=mmattn.StepClassifier'
                )
            scores = sample['step_scores'].float().cpu()
            confidence, order = scores.topk(min(max(self.topk), scores.shape[1]))
            hits = order == sample['gt_label'].cpu().reshape(1, 1)
            kept = sample.get('kept')
            self.results.append(
                dict(
                    right={k: hits[:, :k].any(1).tolist() for k in self.topk},  # of each step
                    best=order[:, 0].tolist(),
                    confident=int(confidence[:, 0].argmax()),
                    kept=None if kept is None else kept.tolist(),
                )
            )

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Count.

        Args:
            results: what :meth:`process` kept, of all processes.
        """
        steps = len(results[0]['best'])
        rows = {f'step_{step + 1}': [[step]] * len(results) for step in range(steps)}
        rows['confident'] = [[result['confident']] for result in results]
        if results[0]['kept'] is not None:
            rows['union'] = [result['kept'] for result in results]
        shares = {
            name: {f'top{k}_cls': self._share(results, chosen, k) for k in self.topk}
            for name, chosen in rows.items()
        }
        found = {
            f'{name}_top{k}': 100 * shares[name][f'top{k}_cls'] for name in rows for k in self.topk
        }
        if 'union' in rows:
            several = [len({r['best'][step] for step in r['kept']}) > 1 for r in results]
            shares['union']['several'] = sum(several) / len(results)
            found['union_several'] = 100 * shares['union']['several']
        if self.file:
            self._write(shares, steps, len(results))
        return found

    @staticmethod
    def _share(results: list[dict], chosen: list, k: int) -> float:
        """Share of the images of which any chosen step is right."""
        right = [any(r['right'][k][step] for step in steps) for r, steps in zip(results, chosen)]
        return sum(right) / len(results)

    def _write(self, shares: dict, steps: int, images: int) -> None:
        each = [dict(shares.pop(f'step_{step + 1}'), images=images) for step in range(steps)]
        Path(self.file).parent.mkdir(parents=True, exist_ok=True)
        write_text(self.file, json.dumps(dict(steps=each, **shares), indent=1) + '\n')
