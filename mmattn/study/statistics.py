r"""What a study can say: differences with their chance, corrected for the number of methods.

Two things are drawn by chance: the starts (seeds) and the test images. Every method is paired with
plain, seed by seed, on the same images. The mean :math:`D` of the differences :math:`d_s` of
:math:`S` seeds has two independent parts of variance.

*Starts*, and how starts and images interact. As in an analysis of variance with seeds as blocks,
all entries of a study have one spread of starts, so that it is known from all their runs. With
:math:`y_{es}` the figure of entry :math:`e` of :math:`E` and seed :math:`s`, and bars for means,

.. math::
    A = \frac{2}{S \, \nu} \sum_{e, s} (y_{es} - \bar y_e - \bar y_s + \bar y)^2,
    \quad \nu = (E - 1) (S - 1).

With one method this is the paired t test. A method whose own variance of :math:`d_s` is above
:math:`S A` gets that one. Where an F test at 5 % says that the method, or plain, spreads more than
the other entries, its degrees of freedom are its own :math:`S - 1`. The test divides the variance
of :math:`y_{es}` minus the other entries' mean, over :math:`1 + 1 / (E - 1)`, by the spread that
these others have among themselves; the two are independent.

*Images*. With :math:`V` variances over resampled sets of the images, the same sets for every run,

.. math::
    B = \max\Bigl(V(D) - \frac{\frac{1}{S} \sum_s V(d_s) - V(D)}{S - 1}, 0\Bigr),

where the subtracted term is the interaction, which A holds already (Hillis, Berbaum, Metz, Recent
developments in the Dorfman-Berbaum-Metz procedure for multireader ROC study analysis, Academic
Radiology 15(5), 2008: readers are our seeds and cases our images). With one seed, B is V(D) and
A is left out. Resampled sets spread less than new sets would, and B is multiplied by
:math:`M / (M - 1)` for :math:`M` images, which is exact for a mean.

The half width of an interval is :math:`\sqrt{t_\nu^2 A + t_\mu^2 B}` with the quantiles of its
level and :math:`1 / \mu = 1 / (M - 1) + 1 / (R - 1)` for :math:`R` resampled sets. It keeps its
level whichever part is the larger (Howe, Journal of the ASA 69, 1974). A p value is the level at
which the interval ends at 0.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import optimize, special

__all__ = ['Comparison', 'Scores', 'compare', 'holm', 'resample_counts', 'visible_with']

_SMALLEST = 1e-12  # p values below are this
_ODD = 0.05  # the chance that an entry like the others is taken to spread more
_POWER = 0.8  # the chance with which the smallest visible difference would have been seen


@dataclass
class Scores:
    """One figure of one entry, larger is better.

    Args:
        values: Seed to its value on the test images.
        resampled: Seed to ``(R,)`` values on resampled images, the same sets for every seed and
            entry; None where the figure cannot be taken on a part of the images.
    """

    values: Mapping[int, float]
    resampled: Mapping[int, np.ndarray] | None = None


@dataclass
class Comparison:
    """A method beside plain.

    Args:
        difference: Mean over the seeds of method minus plain.
        starts: Its variance by the starts; nan with one seed.
        degrees: Degrees of freedom of that variance.
        shifts: Its variance by the test images; nan where they cannot be resampled.
        p: Two-sided p value of no difference.
        p_holm: The same, corrected for the number of methods.
        low, high: 95 % interval, as wide as the correction asks: it leaves out 0 exactly where
            the corrected test does.
        alone_low, alone_high: 95 % interval of a method looked at alone.
        visible: The smallest difference that would have been seen with a chance of 80 %.
        seeds: Seeds that both have finished.
        images: Test images; 0 where their chance is not in the interval.
        shift_degrees: Degrees of freedom of ``shifts``.
        verdict: ``'better'``, ``'worse'`` or ``'no difference'``.
        restless: ``'method'`` or ``'plain'`` where its starts spread more than those of the other
            entries; ``starts`` is then known from this one comparison.
    """

    difference: float
    starts: float
    degrees: float
    shifts: float
    seeds: tuple[int, ...]
    images: int
    shift_degrees: float = math.inf
    p: float = math.nan
    p_holm: float = math.nan
    low: float = math.nan
    high: float = math.nan
    alone_low: float = math.nan
    alone_high: float = math.nan
    visible: float = math.nan
    verdict: str = 'no difference'
    restless: str = ''

    @property
    def error(self) -> float:
        """The standard error; nan where nothing tells it."""
        parts = [part for part in (self.starts, self.shifts) if not math.isnan(part)]
        return math.sqrt(sum(parts)) if parts else math.nan

    def half_width(self, level: float) -> float:
        """Half of the interval that misses the truth with this chance."""
        total = 0.0
        if not math.isnan(self.starts):
            total += self.starts * special.stdtrit(self.degrees, level / 2) ** 2
        if not math.isnan(self.shifts):
            total += self.shifts * special.stdtrit(self.shift_degrees, level / 2) ** 2
        return math.sqrt(total)

    def test(self) -> float:
        """The p value: the level at which the interval ends at 0."""
        size = abs(self.difference)
        if size == 0:
            return 1.0
        if self.half_width(_SMALLEST) <= size:
            return _SMALLEST
        found = optimize.brentq(
            lambda power: self.half_width(10**power) - size, math.log10(_SMALLEST), 0
        )
        return 10**found

    def words(self, digits: int = 3) -> str:
        """Return the verdict in words."""
        runs = f'{len(self.seeds)} run{"s" * (len(self.seeds) != 1)}'
        images = f' on {self.images} images' if self.images else ''
        if math.isnan(self.error):
            return f'{runs}{images}: nothing tells how much of the difference is chance'
        if self.verdict != 'no difference':
            alone = ', by the test images alone (one run knows nothing of the starts)'
            return self.verdict + (alone if len(self.seeds) == 1 else '')
        seen = f'smallest visible: {self.visible:.{digits}f}'
        if self.restless:
            whose = {'plain': "plain's", 'method': 'its'}[self.restless]
            seen += f"; {whose} starts spread more than the others'"
        return f'no difference that {runs}{images} could show ({seen})'


def resample_counts(images: int, times: int, seed: int = 0) -> np.ndarray:
    """How often each image is in each resampled set.

    Args:
        images: The number of test images.
        times: The number of sets.
        seed: Of the draw; one seed gives all runs of a study the same sets.

    Returns:
        ``(times, images)`` counts, each row summing to ``images``.
    """
    rng = np.random.default_rng(seed)
    return rng.multinomial(images, np.full(images, 1 / images), size=times)


def holm(p: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Correct p values for their number (Holm 1979).

    Returns:
        The corrected values, and the factor by which each test's level was divided: the number of
        tests left when its turn came, or when the first of them failed at 5 %.
    """
    values = np.asarray(p, float)
    order = np.argsort(values, kind='stable')
    left = len(values) - np.arange(len(values))
    corrected = np.maximum.accumulate(np.minimum(values[order] * left, 1.0))
    failed = np.flatnonzero(corrected > 0.05)
    divided = left.copy()
    if len(failed):
        divided[failed[0] :] = left[failed[0]]
    result, factors = np.empty(len(values)), np.empty(len(values), int)
    result[order], factors[order] = corrected, divided
    return result, factors


def compare(
    plain: Scores, methods: Mapping[str, Scores], images: int, level: float = 0.05
) -> dict[str, Comparison]:
    """Compare every method with plain.

    Args:
        plain: The plain config's scores.
        methods: Scores by method. A seed that either side lacks (a failed run) is left out.
        images: The number of test images.
        level: The chance of any false alarm among all methods.

    Returns:
        A comparison of every method with at least one seed that plain has too.
    """
    found = {}
    entries = [plain, *methods.values()]
    pooled = _pooled(_table(entries, plain.values))
    steady = [_alike(number, entries) for number in range(len(entries))]
    for name, scores, alike in zip(methods, methods.values(), steady[1:]):
        seeds = tuple(seed for seed in plain.values if seed in scores.values)
        if seeds:
            restless = 'plain' if not steady[0] else '' if alike else 'method'
            common = (math.nan, 0) if restless else pooled
            found[name] = _difference(plain, scores, seeds, images, common)
            found[name].restless = restless
    tested = [one for one in found.values() if not math.isnan(one.error)]
    for one in tested:
        one.p = one.test()
    corrected, factors = holm([one.p for one in tested])
    for one, p, factor in zip(tested, corrected, factors):
        one.p_holm = float(p)
        half, alone = one.half_width(level / factor), one.half_width(level)
        one.low, one.high = one.difference - half, one.difference + half
        one.alone_low, one.alone_high = one.difference - alone, one.difference + alone
        one.visible = half + float(special.ndtri(_POWER)) * one.error
        if p <= level and one.difference:
            one.verdict = 'better' if one.difference > 0 else 'worse'
    return found


def visible_with(
    found: Mapping[str, Comparison], seeds: Sequence[int], level: float = 0.05
) -> dict[int, float]:
    """Tell the smallest difference that the study would have seen with other numbers of seeds.

    Starts and images are as chancy as for the median method; all methods are corrected for, and
    *seen* means in four of five studies.

    Args:
        found: What :func:`compare` found.
        seeds: Numbers of seeds, 2 or more each.
        level: The chance of any false alarm among all methods.

    Returns:
        Number of seeds to difference; empty where one seed tells nothing of the starts.
    """
    known = [one for one in found.values() if not math.isnan(one.starts)]
    if not known:
        return {}
    median = sorted(known, key=lambda one: one.starts * len(one.seeds))[len(known) // 2]
    visible = {}
    for count in seeds:
        one = replace(
            median,
            starts=median.starts * len(median.seeds) / count,
            degrees=median.degrees * (count - 1) / (len(median.seeds) - 1),
        )
        seen = float(special.ndtri(_POWER)) * one.error
        visible[count] = one.half_width(level / len(found)) + seen
    return visible


def _table(entries: Sequence[Scores], seeds: Iterable[int]) -> np.ndarray:
    """Return an entry's figures a row; without the entries that lack a seed (a failed run)."""
    seeds = list(seeds)
    return np.array([[e.values[s] for s in seeds] for e in entries if e.values.keys() >= {*seeds}])


def _pooled(table: np.ndarray) -> tuple[float, int]:
    """Return the variance of one run by its start, and the degrees of freedom it is known with."""
    if table.ndim < 2 or min(table.shape) < 2:
        return math.nan, 0
    rest = table - table.mean(1, keepdims=True) - table.mean(0) + table.mean()
    degrees = (table.shape[0] - 1) * (table.shape[1] - 1)
    return float((rest**2).sum() / degrees), degrees


def _alike(number: int, entries: Sequence[Scores]) -> bool:
    """Tell whether this entry spreads as the others do, as far as the F test can tell."""
    values, seeds = entries[number].values, list(entries[0].values)
    others = _table([*entries[:number], *entries[number + 1 :]], seeds)
    spread, degrees = _pooled(others)
    if degrees == 0 or len(values.keys() & {*seeds}) < 2:
        return True
    ahead = [values[s] - others[:, i].mean() for i, s in enumerate(seeds) if s in values]
    own = np.var(ahead, ddof=1) / (1 + 1 / len(others))
    return bool(own <= spread * special.fdtri(len(ahead) - 1, degrees, 1 - _ODD))


def _difference(
    plain: Scores,
    method: Scores,
    seeds: tuple[int, ...],
    images: int,
    pooled: tuple[float, int],
) -> Comparison:
    """Return the mean paired difference and the two parts of its variance."""
    each = np.array([method.values[seed] - plain.values[seed] for seed in seeds])
    count = len(seeds)
    starts, degrees = math.nan, 0
    if count > 1:
        starts, degrees = each.var(ddof=1), count - 1
        common, many = 2 * pooled[0], pooled[1]
        if many > degrees:
            starts, degrees = max(starts, common), many
        starts = float(starts) / count
    shifts = math.nan
    both = plain.resampled is not None and method.resampled is not None
    if both:
        sets = np.stack([method.resampled[seed] - plain.resampled[seed] for seed in seeds])
        sets = sets[:, np.isfinite(sets).all(axis=0)]  # a set may have no object of some size
    if both and sets.shape[1] > 1:
        shifts = sets.mean(axis=0).var(ddof=1)
        if count > 1:
            of_each = sets.var(axis=1, ddof=1).mean()
            shifts = max(shifts - (of_each - shifts) / (count - 1), 0.0)
    mean = float(each.mean())
    if math.isnan(shifts):
        return Comparison(mean, starts, degrees, shifts, seeds, 0)
    shifts *= images / max(images - 1, 1)
    known = 1 / (1 / max(images - 1, 1) + 1 / (sets.shape[1] - 1))
    return Comparison(mean, starts, degrees, float(shifts), seeds, images, known)
