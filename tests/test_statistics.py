"""Intervals hold what they promise: they cover, they are honest about few seeds, and do not depend on company."""

import numpy as np
import pandas as pd
import pytest

from memsweep.analysis.core import statistics


def estimates(*groups):
    rows = [{"setting": i, "value": value} for i, values in enumerate(groups) for value in values]
    return statistics.over_seeds(pd.DataFrame(rows), ["setting"], "value")


def coverage(n, *, expanded=True, repeats=4000):
    """Share of intervals, from n normal seeds, that hold the true mean 0."""
    values = np.random.default_rng(1).normal(size=(repeats, n))
    if expanded:
        low, high = statistics.bootstrap_mean(values, np.random.default_rng(2))
    else:
        drawn = np.random.default_rng(2).multinomial(n, np.full(n, 1 / n), size=statistics.RESAMPLES)
        low, high = np.quantile(values @ drawn.T / n, [0.025, 0.975], axis=1)
    return ((low <= 0) & (high >= 0)).mean()


@pytest.mark.parametrize("n, least", [(5, 0.92), (10, 0.943), (20, 0.95)])
def test_intervals_cover_the_truth_also_with_few_seeds(n, least):
    assert least < coverage(n) < 0.97


def test_the_plain_percentile_interval_would_not(n=5):
    assert coverage(n, expanded=False) < 0.86 < coverage(n)


def test_an_estimate_is_the_mean_with_its_seeds():
    (row,) = estimates([0.1, 0.2, 0.6]).to_dict("records")
    assert row["estimate"] == pytest.approx(0.3)
    assert 0.1 <= row["low"] < 0.3 < row["high"] <= 0.6
    assert (row["seeds"], row["missing"]) == (3, 0)


def test_one_seed_has_no_interval_and_none_no_estimate():
    summary = estimates([0.5], [np.nan, np.nan], [0.5, np.nan])
    assert summary["estimate"].tolist()[::2] == [0.5, 0.5] and np.isnan(summary["estimate"][1])
    assert summary[["low", "high"]].isna().all(axis=None)
    assert summary["seeds"].tolist() == [1, 0, 1]
    assert summary["missing"].tolist() == [0, 2, 1]


def test_equal_seeds_have_an_interval_of_no_width():
    (row,) = estimates([0.7] * 5).to_dict("records")
    assert row["low"] == row["high"] == row["estimate"] == pytest.approx(0.7)


def test_an_interval_does_not_depend_on_the_other_settings():
    values = np.random.default_rng(3).normal(size=8)
    alone, beside = estimates(values), estimates(values, 2 * values, values[:5])
    pd.testing.assert_frame_equal(alone, beside[:1])


def test_the_generator_decides_the_resampling():
    frame = pd.DataFrame({"setting": 0, "value": np.random.default_rng(3).normal(size=8)})
    once, again, other = (
        statistics.over_seeds(frame, ["setting"], "value", np.random.default_rng(seed)) for seed in (3, 3, 4)
    )
    assert once.equals(again) and not once.equals(other)


def test_no_rows_give_no_settings():
    summary = statistics.over_seeds(pd.DataFrame({"setting": [], "value": []}), ["setting"], "value")
    assert summary.empty and "missing" in summary


def test_a_share_of_seeds_has_an_interval_also_when_all_agree():
    rows = [{"setting": i, "value": v} for i, vs in enumerate(([1] * 5, [0] * 5, [1, 0, np.nan], [np.nan])) for v in vs]
    summary = statistics.share_over_seeds(pd.DataFrame(rows, dtype=float), ["setting"], "value")
    assert summary["estimate"].tolist()[:3] == [1, 0, 0.5] and np.isnan(summary["estimate"][3])
    z2 = 1.959964**2
    assert summary["low"].tolist()[:2] == pytest.approx([5 / (5 + z2), 0])
    assert summary["high"].tolist()[:2] == pytest.approx([1, z2 / (5 + z2)])
    assert summary["seeds"].tolist() == [5, 5, 2, 0] and summary["missing"].tolist() == [0, 0, 1, 1]


def median(values, censored=()):
    frame = pd.DataFrame({"setting": 0, "value": values, "late": [i in censored for i in range(len(values))]})
    (row,) = statistics.median_over_seeds(frame, ["setting"], "value", "late").to_dict("records")
    return row


@pytest.mark.parametrize("n, low, high", [(3, 1, 3), (5, 1, 5), (6, 1, 6), (9, 2, 8), (10, 2, 9), (20, 6, 15)])
def test_the_interval_of_a_median_is_that_of_the_sign_test(n, low, high):
    """From tables of order statistics, e.g. 20 values: the 6th to the 15th, which cover with 95.9 %."""
    row = median([float(i) for i in range(1, n + 1)])
    assert (row["low"], row["high"], row["estimate"]) == (low, high, (n + 1) / 2)


def test_a_median_among_the_censored_is_a_lower_bound():
    assert median([1.0, 2.0, 9.0], {2})["at_least"] == 0
    row = median([1.0, 9.0, 9.0, np.nan], {1, 2})
    assert (row["estimate"], row["at_least"], row["high"]) == (9, 1, np.inf)
    assert (row["seeds"], row["missing"], row["censored"]) == (3, 1, 2)
    alone, none = median([4.0]), median([np.nan])
    assert alone["estimate"] == 4 and np.isnan(alone["low"]) and np.isnan(none["estimate"])
