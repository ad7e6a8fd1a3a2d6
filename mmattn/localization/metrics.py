"""Localization metrics, streamed: feed one image at a time, merge shards in any order.

``top1_loc``, ``top5_loc``: the ILSVRC rule: one of the k best (class, box) pairs has the true
class and IoU >= 0.5 with a true box. ``gt_known``: the box of the true class has IoU >= 0.5.
``max_box_acc``, ``max_box_acc_v2``: Choe et al., the best threshold for the whole data set.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from mmattn.localization.structures import ImageResult
from mmattn.localization.sweep import IOU_THRS, LEVELS, threshold_levels, unpack

COUNTED = ('top1_cls', 'top5_cls', 'gt_known', 'top1_loc', 'top5_loc')
_FLUSH = 64

__all__ = ['COUNTED', 'LocalizationMetrics', 'hit_in_top', 'interval_95', 'judge']


def hit_in_top(result: ImageResult, k: int, iou_thr: float = 0.5) -> bool:
    """Whether one of the ``k`` best (class, boxes) pairs is right by the ILSVRC rule.

    Where a result holds the IoU of each of its best classes, these decide. Where it holds only
    the true class's, that is enough: a pair can be right only if its class is the true one, and
    the box of a class comes from that class's own map, so the rule reads "true class among the
    k best, and its box hits".
    """
    if result.class_ious is None:
        return result.label in result.top5[:k] and result.iou >= iou_thr
    pairs = zip(result.top5[:k], result.class_ious[:k])
    return any(name == result.label and iou >= iou_thr for name, iou in pairs)


def judge(result: ImageResult, iou_thr: float = 0.5) -> tuple[bool, ...]:
    """Give the five yes/no answers of :data:`COUNTED` for one image."""
    top5 = result.top5
    return (
        result.label in top5[:1],
        result.label in top5,
        result.iou >= iou_thr,
        hit_in_top(result, 1, iou_thr),
        hit_in_top(result, 5, iou_thr),
    )


class LocalizationMetrics:
    """Counts everything the summary needs; whole numbers only, so the order never matters.

    The 95 % intervals are a Poisson bootstrap: each image counts 0, 1, 2, ... times in each of
    ``replicates`` resampled data sets, drawn from the image's own name. That needs no second
    pass, merges like any count, and the interval of MaxBoxAcc includes the choice of its
    threshold.

    Args:
        iou_thr: IoU from which a box counts.
        step: Distance of the thresholds of the MaxBoxAcc sweep.
        replicates: Resampled data sets; 0 leaves the intervals out.
    """

    def __init__(self, iou_thr: float = 0.5, step: float = 0.001, replicates: int = 1000) -> None:
        if not 0 < iou_thr <= 1:
            raise ValueError(f'iou_thr must be in (0, 1], got {iou_thr}')
        self.iou_thr = iou_thr
        self.thresholds, self._levels = threshold_levels(step)
        self.replicates = replicates
        self.images = self.failed = self.swept = 0
        self.per_class = {}
        self._curve = np.zeros((2, len(IOU_THRS), LEVELS), np.int64)
        self._drawn = np.zeros((replicates, 2), np.int64)  # images drawn: all, with a sweep
        self._drawn_hits = np.zeros((replicates, len(COUNTED)), np.int64)
        self._drawn_curve = np.zeros((replicates, self._curve.size), np.int32)
        self._pending = []

    def update(self, result: ImageResult) -> None:
        """Add one image."""
        if result.error is not None:
            self.failed += 1
            return
        hits = np.array(judge(result, self.iou_thr), np.int64)
        self.images += 1
        row = self.per_class.setdefault(int(result.label), np.zeros(1 + len(COUNTED), np.int64))
        row += np.concatenate(([1], hits))
        curve = None
        if result.sweep:
            curve = np.stack([[unpack(t) for t in result.sweep[v]] for v in ('v1', 'v2')])
            self.swept += 1
            self._curve += curve
        if self.replicates:
            self._pending.append((result.key, hits, curve))
            if len(self._pending) >= _FLUSH:
                self._flush()

    def _flush(self) -> None:
        """Add the waiting images to the resampled sets with one matrix product."""
        if not self._pending:
            return
        keys, hits, curves = zip(*self._pending)
        weights = np.stack([_weights(key, self.replicates) for key in keys], 1)  # (R, images)
        swept = np.array([c is not None for c in curves])
        self._drawn += np.stack([weights.sum(1), weights[:, swept].sum(1)], 1)
        self._drawn_hits += weights @ np.stack(hits)
        if swept.any():
            flat = np.stack([c.ravel() for c in curves if c is not None]).astype(np.float32)
            # exact: sums of small whole numbers in float32
            product = weights[:, swept].astype(np.float32) @ flat
            self._drawn_curve += product.astype(np.int32)
        self._pending.clear()

    def merge(self, other: LocalizationMetrics) -> LocalizationMetrics:
        """Add what another accumulator has seen.

        Raises:
            ValueError: The two were made with other settings.
        """
        mine = (self.iou_thr, len(self.thresholds), self.replicates)
        theirs = (other.iou_thr, len(other.thresholds), other.replicates)
        if mine != theirs:
            raise ValueError(
                f'cannot merge metrics with other settings: (iou_thr, thresholds, replicates) '
                f'{mine} and {theirs}'
            )
        self._flush()
        other._flush()
        for name in ('images', 'failed', 'swept'):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for label, row in other.per_class.items():
            self.per_class[label] = self.per_class.get(label, 0) + row
        for name in ('_curve', '_drawn', '_drawn_hits', '_drawn_curve'):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        return self

    def totals(self) -> dict[str, float]:
        """Give the five counted fractions only: cheap, for the progress line."""
        total = sum(self.per_class.values(), np.zeros(1 + len(COUNTED), np.int64))[1:]
        return {k: _ratio(v, self.images) for k, v in zip(COUNTED, total.tolist())}

    def curves(self) -> dict[str, np.ndarray]:
        """Accuracy at every threshold.

        Returns:
            ``{'thresholds': (T,), 'v1': (3, T), 'v2': (3, T)}``, rows by IoU 0.3, 0.5, 0.7.
        """
        acc = self._curve[..., self._levels] / max(self.swept, 1)
        return dict(thresholds=self.thresholds, v1=acc[0], v2=acc[1])

    def summary(self) -> dict[str, Any]:
        """All results as plain JSON-ready values, accuracies as fractions."""
        self._flush()
        out = dict(self.totals(), max_box_acc=None, max_box_acc_v2=None)
        out.update(images=self.images, failed=self.failed, iou_thr=self.iou_thr)
        out['best_threshold'] = {}
        if self.swept:
            curve = self.curves()
            half = IOU_THRS.index(0.5)
            out['max_box_acc'] = float(curve['v1'][half].max())
            out['max_box_acc_v2'] = float(curve['v2'].max(1).mean())
            best = {'max_box_acc': _best(curve['thresholds'], curve['v1'][half])}
            v2 = {str(t): _best(curve['thresholds'], c) for t, c in zip(IOU_THRS, curve['v2'])}
            out['best_threshold'] = dict(best, max_box_acc_v2=v2)
            out['max_box_acc_v2_parts'] = {
                str(t): float(c.max()) for t, c in zip(IOU_THRS, curve['v2'])
            }
        out['interval_95'] = {k: interval_95(v) for k, v in self.replicated().items()}
        return out

    def replicated(self) -> dict[str, np.ndarray]:
        """Give each metric in every resampled data set, ``{name: (R,)}``; empty without images."""
        self._flush()
        if not self.replicates or not self.images:
            return {}
        drawn = self._drawn.clip(min=1)
        values = dict(zip(COUNTED, (self._drawn_hits / drawn[:, :1]).T))
        if self.swept:
            shape = (self.replicates, *self._curve.shape)
            best = self._drawn_curve.reshape(shape)[..., self._levels].max(-1)  # (R, 2, IoUs)
            best = best / drawn[:, 1, None, None]
            values['max_box_acc'] = best[:, 0, IOU_THRS.index(0.5)]
            values['max_box_acc_v2'] = best[:, 1].mean(1)
        return values

    def class_table(self, names: Sequence[str] = ()) -> list[dict[str, Any]]:
        """One row per class, lowest ``gt_known`` first: label, name, images, five fractions."""
        rows = []
        for label, row in self.per_class.items():
            name = names[label] if label < len(names) else f'class {label}'
            fractions = {k: _ratio(v, row[0]) for k, v in zip(COUNTED, row[1:].tolist())}
            rows.append(dict(label=label, name=name, images=int(row[0]), **fractions))
        return sorted(rows, key=lambda r: (r['gt_known'], r['top1_loc'], r['label']))


def interval_95(values: np.ndarray) -> list[float]:
    """Give the range of the middle 95 % of resampled values."""
    return np.percentile(values, [2.5, 97.5]).tolist()


def _ratio(count: int, total: int) -> float:
    return float(count / total) if total else 0.0


def _best(thresholds: np.ndarray, accuracy: np.ndarray) -> float:
    return round(float(thresholds[int(np.argmax(accuracy))]), 6)


def _weights(key: str, replicates: int) -> np.ndarray:
    """How often an image is drawn in each replicate, ``(R,)``; depends on its name alone."""
    return np.random.default_rng(zlib.crc32(key.encode())).poisson(1.0, replicates)
