"""Statistics of a study, on scores whose truth is known."""

import math

import numpy as np
import pytest
from scipy import stats

from mmattn.study.statistics import Scores, compare, holm, resample_counts, visible_with


class World:
    """Draws studies: starts, images, and how they interact, each with a spread of its own.

    The score of an image is continuous; an entry's figure is their mean, as top-1 is.
    """

    def __init__(self, start, image, both, methods=5, seeds=3, images=80, sets=200):
        self.spread = start, image, both
        self.methods, self.seeds, self.images = methods, seeds, images
        self.counts = resample_counts(images, sets) / images

    def study(self, rng, gains=()):
        """The comparisons of one study; gains are the true differences of the first methods."""
        start, image, both = self.spread
        common = rng.normal(0, 1, self.images)  # an image is hard for every entry
        scores = []
        for number in range(self.methods + 1):
            own = rng.normal(0, image, self.images)  # ... or for one method in particular
            gain = gains[number - 1] if 0 < number <= len(gains) else 0
            values = (
                gain
                + common
                + own
                + rng.normal(0, start, (self.seeds, 1))
                + rng.normal(0, both, (self.seeds, self.images))
            )
            seeds = range(self.seeds)
            scores.append(
                Scores(
                    dict(zip(seeds, values.mean(1).tolist())),
                    dict(zip(seeds, values @ self.counts.T)),
                )
            )
        names = [f'method {n}' for n in range(self.methods)]
        return compare(scores[0], dict(zip(names, scores[1:])), self.images)

    def alarms(self, studies, seed=0):
        """The share of studies of useless methods with a verdict on any of them."""
        rng = np.random.default_rng(seed)
        found = [self.study(rng).values() for _ in range(studies)]
        return np.mean([any(one.verdict != 'no difference' for one in all_) for all_ in found])


WORLDS = {
    'starts': dict(start=0.2, image=0.05, both=0.05),
    'images': dict(start=0.001, image=0.8, both=0.05),
    'interaction': dict(start=0.001, image=0.001, both=0.8),
    'all alike': dict(start=0.06, image=0.5, both=0.5),
    'five seeds': dict(start=0.06, image=0.5, both=0.5, seeds=5),
    'one seed, only images': dict(start=0.0, image=0.5, both=0.0, seeds=1),
}


@pytest.mark.slow
@pytest.mark.parametrize('name', WORLDS)
def test_false_alarms_in_twenty_thousand_studies(name):
    rate = World(**WORLDS[name]).alarms(20_000)
    print(f'{name}: {rate:.3f}')
    assert rate <= 0.05


@pytest.mark.parametrize('name', ['images', 'all alike'])
def test_false_alarms(name):
    assert World(**WORLDS[name], sets=60).alarms(150) <= 0.09  # 5 % of 150, and chance


def test_an_interval_that_forgets_a_source_would_raise_alarms():
    """5 % is a limit: by images alone, or by their sum as normal, it is passed."""
    world, rng = World(**WORLDS['all alike'], methods=1), np.random.default_rng(0)
    alarms = {'images': 0, 'starts': 0}
    for _ in range(300):
        (one,) = world.study(rng).values()
        alarms['images'] += abs(one.difference) > 1.96 * math.sqrt(one.shifts)
        alarms['starts'] += abs(one.difference) > 1.96 * math.sqrt(one.starts)
    assert min(alarms.values()) > 0.1 * 300


def starts_only(rng, spreads, seeds=3):
    """The comparisons of a study of useless methods, images left out; plain's spread first."""
    plain, *rest = (Scores(dict(enumerate(rng.normal(0, own, seeds)))) for own in spreads)
    return compare(plain, {str(n): one for n, one in enumerate(rest)}, 0)


def alarms_where_one_spreads_more(spreads, seeds, studies):
    rng = np.random.default_rng(0)
    found = [starts_only(rng, spreads, seeds).values() for _ in range(studies)]
    return np.mean([any(one.verdict != 'no difference' for one in all_) for all_ in found])


# The last: a test of plain's own spread has little to go by with three starts of it.
RESTLESS = {
    'a method three times': (dict(spreads=[1, 1, 1, 1, 1, 3], seeds=3), 0.05),
    'a method five times': (dict(spreads=[1, 1, 1, 1, 1, 5], seeds=3), 0.05),
    'plain three times, five seeds': (dict(spreads=[3, 1, 1, 1, 1, 1], seeds=5), 0.055),
    'plain three times, three seeds': (dict(spreads=[3, 1, 1, 1, 1, 1], seeds=3), 0.09),
}


@pytest.mark.slow
@pytest.mark.parametrize('name', RESTLESS)
def test_false_alarms_where_one_spreads_more_in_twenty_thousand_studies(name):
    world, limit = RESTLESS[name]
    rate = alarms_where_one_spreads_more(**world, studies=20_000)
    print(f'{name}: {rate:.3f}')
    assert rate <= limit


@pytest.mark.parametrize('plain', [1, 3])
def test_one_that_spreads_more(plain):
    """The common spread must not make a restless method, or a restless plain one, a finding."""
    spreads = [plain] + [1] * 9 + [5] * (plain == 1)
    assert alarms_where_one_spreads_more(spreads, 4, 400) < 0.09


@pytest.mark.parametrize('odd, told', [(0, 'plain'), (3, 'method')])
def test_who_spreads_more_is_told(odd, told):
    rng = np.random.default_rng(1)
    found = starts_only(rng, [50 if n == odd else 1 for n in range(6)])
    restless = {name: one.restless for name, one in found.items()}
    assert restless.pop('2') == told
    assert set(restless.values()) == ({told} if odd == 0 else {''})
    whose = "plain's" if odd == 0 else 'its'
    assert found['2'].words().endswith(f"; {whose} starts spread more than the others')")
    assert found['2'].degrees == 2
    assert found['4'].degrees == (2 if odd == 0 else 10)


def test_of_many_methods_few_are_left_without_the_common_spread():
    """An interval of 2 degrees of freedom, 24 methods: no use. By chance in one of ten."""
    rng = np.random.default_rng(5)
    found = [one for _ in range(100) for one in starts_only(rng, [1] * 25).values()]
    assert 0.04 < np.mean([one.degrees == 2 for one in found]) < 0.15


def test_power_rises_with_the_seeds():
    shares = []
    for seeds in (2, 3, 6):
        world = World(start=0.2, image=0.2, both=0.3, methods=3, seeds=seeds)
        rng = np.random.default_rng(1)
        found = [world.study(rng, gains=[0.5])['method 0'] for _ in range(120)]
        shares.append(np.mean([one.verdict == 'better' for one in found]))
        assert not any(one.verdict == 'worse' for one in found)
    assert shares[0] + 0.1 < shares[1]
    assert shares[1] + 0.1 < shares[2]
    assert shares[2] > 0.8


def test_the_smallest_visible_difference_is_seen_four_times_in_five():
    world = World(start=0.1, image=0.3, both=0.3, methods=1, seeds=6)
    rng = np.random.default_rng(2)
    visible = np.mean([world.study(rng)['method 0'].visible for _ in range(100)])
    seen = [world.study(rng, gains=[visible])['method 0'].verdict == 'better' for _ in range(200)]
    assert 0.68 < np.mean(seen) < 0.92


def test_what_more_seeds_would_see_is_what_they_see():
    rng = np.random.default_rng(4)
    few, many = (World(start=0.1, image=0.3, both=0.3, methods=4, seeds=n) for n in (3, 9))
    told = np.mean([visible_with(few.study(rng), [9])[9] for _ in range(100)])
    seen = np.mean([one.visible for _ in range(100) for one in many.study(rng).values()])
    assert told == pytest.approx(seen, rel=0.05)
    found = few.study(rng)
    same = visible_with(found, [3])[3]
    assert min(one.visible for one in found.values()) <= same
    assert same <= max(one.visible for one in found.values())
    rising = list(visible_with(found, [2, 3, 5, 10, 100]).values())
    assert rising == sorted(rising, reverse=True)


def test_one_seed_does_not_tell_what_more_would_see():
    one = {0: 0.5}
    assert visible_with(compare(Scores(one), {'m': Scores(one)}, 9), [3, 5]) == {}


def test_the_interval_holds_the_truth():
    world, rng = World(**WORLDS['all alike'], methods=1), np.random.default_rng(3)
    found = [world.study(rng, gains=[0.3])['method 0'] for _ in range(300)]
    inside = np.mean([one.low <= 0.3 <= one.high for one in found])
    assert 0.92 < inside <= 1


def test_variance_worked_out_on_paper():
    plain = Scores({0: 0.5, 1: 0.6}, {0: np.zeros(4), 1: np.zeros(4)})
    sets = {0: np.array([0.0, 0.2, 0.0, 0.2]), 1: np.array([0.1, 0.1, 0.3, 0.3])}
    one = compare(plain, {'m': Scores({0: 0.7, 1: 0.64}, sets)}, 9)['m']
    # differences 0.2 and 0.04; sets: V of each 4/300, V of their mean 2/300, all interaction
    assert one.difference == pytest.approx(0.12)
    assert one.starts == pytest.approx(0.0128 / 2)
    assert one.degrees == 1
    assert one.shifts == pytest.approx(0, abs=1e-12)
    # with the same sets for both seeds all of it is the images' own; 9 images: times 9/8
    one = compare(plain, {'m': Scores({0: 0.7, 1: 0.64}, {0: sets[0], 1: sets[0]})}, 9)['m']
    assert one.shifts == pytest.approx(4 / 300 * 9 / 8)
    half = math.sqrt(
        0.0064 * stats.t.ppf(0.975, 1) ** 2
        + 4 / 300 * 9 / 8 * stats.t.ppf(0.975, 1 / (1 / 8 + 1 / 3)) ** 2
    )
    assert (one.low, one.high) == pytest.approx((0.12 - half, 0.12 + half))
    assert one.half_width(one.p) == pytest.approx(0.12)  # at its p value it ends at 0


def test_the_spread_of_starts_is_that_of_all_entries():
    values = {'a': [1.0, 2.0, 6.0], 'b': [2.0, 5.0, 5.0], 'c': [3.0, 4.5, 7.5]}
    plain, *methods = (Scores(dict(enumerate(v))) for v in values.values())
    found = compare(plain, dict(zip('bc', methods)), 0)
    table = np.array(list(values.values()))
    rest = table - table.mean(1, keepdims=True) - table.mean(0) + table.mean()
    common = 2 * (rest**2).sum() / 4
    own = np.var(table[1] - table[0], ddof=1)
    assert own > common  # a method's own spread counts where it is larger
    assert found['b'].starts == pytest.approx(own / 3)
    assert found['c'].starts == pytest.approx(common / 3)
    assert found['b'].degrees == found['c'].degrees == 4


def test_one_seed_has_the_chance_of_the_images_alone():
    plain = Scores({4: 0.5}, {4: np.array([0.4, 0.5, 0.6])})
    method = Scores({4: 0.6}, {4: np.array([0.5, 0.7, 0.6])})
    one = compare(plain, {'m': method}, 50)['m']
    assert one.error == pytest.approx(0.1 * math.sqrt(50 / 49))  # 0.1: the sets' own spread
    assert math.isnan(one.starts)
    assert one.high == pytest.approx(0.1 + stats.t.ppf(0.975, 1 / (1 / 49 + 1 / 2)) * one.error)
    assert '1 run on 50 images' in one.words()
    method = Scores({4: 1.6}, {4: np.array([1.5, 1.7, 1.6])})
    one = compare(plain, {'m': method}, 50)['m']
    assert one.words().startswith('better, by the test images alone')


def test_a_figure_without_images_has_the_chance_of_the_starts_alone():
    plain, method = Scores({0: 0.5, 1: 0.6, 2: 0.4}), Scores({0: 0.7, 1: 0.7, 2: 0.7})
    one = compare(plain, {'m': method}, 50)['m']
    expected = stats.ttest_rel([0.7, 0.7, 0.7], [0.5, 0.6, 0.4])
    assert one.p == pytest.approx(expected.pvalue)
    assert one.images == 0
    visible = (stats.t.ppf(0.975, 2) + stats.norm.ppf(0.8)) * 0.1 / math.sqrt(3)
    assert one.words() == (
        f'no difference that 3 runs could show (smallest visible: {visible:.3f})'
    )
    nothing = compare(Scores({0: 0.5}), {'m': Scores({0: 0.9})}, 50)['m']
    assert nothing.verdict == 'no difference'
    assert 'nothing tells' in nothing.words()


def test_a_seed_that_failed_is_left_out():
    plain = Scores({0: 0.5, 1: 0.6, 2: 0.7})
    found = compare(plain, {'m': Scores({0: 0.6, 2: 0.7}), 'none': Scores({})}, 0)
    assert found['m'].seeds == (0, 2)
    assert found['m'].difference == pytest.approx(0.05)
    assert 'none' not in found


def test_the_same_network_is_no_difference():
    plain = Scores({0: 0.5, 1: 0.6}, {0: np.array([0.4, 0.6]), 1: np.array([0.4, 0.6])})
    one = compare(plain, {'m': plain}, 10)['m']
    assert (one.difference, one.p, one.verdict) == (0, 1, 'no difference')


def test_holm_by_hand():
    corrected, factors = holm([0.01, 0.04, 0.03, 0.005])
    assert corrected.tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert factors.tolist() == [3, 2, 2, 4]
    assert holm([])[0].tolist() == []


@pytest.mark.parametrize('seed', range(20))
def test_interval_and_verdict_never_disagree(seed):
    rng = np.random.default_rng(seed)
    world = World(start=0.05, image=0.3, both=0.3, methods=6)
    for one in world.study(rng, gains=rng.normal(0, 0.4, 6)).values():
        outside = one.low > 0 or one.high < 0
        assert outside == (one.verdict != 'no difference')
        assert one.low <= one.alone_low <= one.difference <= one.alone_high <= one.high


def test_more_methods_make_wider_intervals():
    rng = np.random.default_rng(0)
    values = {s: rng.normal(0.5, 0.1) for s in range(4)}
    plain = Scores({s: rng.normal(0.5, 0.1) for s in range(4)})
    few = compare(plain, {'m': Scores(values)}, 0)['m']
    many = compare(plain, {f'{n}': Scores(values) for n in range(10)}, 0)['0']
    assert many.starts == few.starts
    assert many.high - many.low > many.alone_high - many.alone_low
    assert few.high - few.low == few.alone_high - few.alone_low
    assert many.visible > many.alone_high - many.difference


def test_resampled_sets_have_as_many_images():
    counts = resample_counts(7, 50)
    assert counts.shape == (50, 7)
    assert (counts.sum(1) == 7).all()
    assert (resample_counts(7, 50) == counts).all()
    assert counts.var(0) == pytest.approx(np.full(7, 6 / 7), rel=0.7)
