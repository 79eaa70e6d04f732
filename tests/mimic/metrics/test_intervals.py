"""Bootstrap intervals: coverage, pairing, groups."""

import numpy as np
import pytest
import scipy.stats

from mimic.metrics.intervals import bootstrap_difference, bootstrap_mean


def test_interval_is_scipys_percentile_bootstrap():
    values = np.random.default_rng(0).gamma(2.0, size=25)
    found = bootstrap_mean(values, seed=1)
    theirs = scipy.stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=20_000, rng=np.random.default_rng(2)
    ).confidence_interval
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(theirs.low, abs=0.03)
    assert found.high == pytest.approx(theirs.high, abs=0.03)


def test_interval_holds_the_true_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(3)
    found = [bootstrap_mean(rng.normal(size=30), num_resamples=400, seed=i) for i in range(300)]
    share = np.mean([interval.low <= 0 <= interval.high for interval in found])
    assert 0.89 < share < 0.985


def test_paired_differences_see_what_two_means_do_not():
    rng = np.random.default_rng(4)
    hardness = rng.normal(scale=5, size=20)
    a, b = 20 + hardness + rng.normal(scale=0.1, size=20), 20.3 + hardness
    one, other = bootstrap_mean(a), bootstrap_mean(b)
    assert one.high > other.low  # the intervals overlap
    difference = bootstrap_difference(b, a)
    assert difference.low > 0
    assert difference.mean == pytest.approx((b - a).mean())


def test_seeds_of_one_clip_count_as_one_value():
    values = [1.0, 1.1, 5.0, 5.2, 9.0]
    clips = ["a", "a", "b", "b", "c"]
    found = bootstrap_mean(values, groups=clips)
    assert found == bootstrap_mean([1.05, 5.1, 9.0])
    assert found.num == 3


def test_one_value_has_no_interval():
    found = bootstrap_mean([2.0])
    assert (found.mean, found.low, found.high) == (2.0, None, None)


def test_the_same_seed_gives_the_same_interval():
    assert bootstrap_mean([1, 2, 3], seed=5) == bootstrap_mean([1, 2, 3], seed=5)


@pytest.mark.parametrize("values", [[], [1.0, np.nan]])
def test_no_or_infinite_values_are_an_error(values):
    with pytest.raises(ValueError, match="finite"):
        bootstrap_mean(values)


def test_pairs_must_be_pairs():
    with pytest.raises(ValueError, match="pairs"):
        bootstrap_difference([1.0, 2.0], [1.0])
