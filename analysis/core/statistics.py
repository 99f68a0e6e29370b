"""Estimates over seeds, with intervals for what more seeds would give."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

LEVEL = 0.95
"""Nominal level of all intervals."""
RESAMPLES = 4999


def over_seeds(
    frame: pd.DataFrame,
    by: Sequence[str],
    value: str,
    generator: np.random.Generator | None = None,
    *,
    has_values: bool = False,
) -> pd.DataFrame:
    """Returns one row a setting: mean of `value` over its rows (seeds) with a bootstrap interval over seeds.

    frame: one row a seed and setting; NaN in `value` is a seed without a result.  by: columns that make a setting.
    generator: of the resampling; default: a generator of seed 0, so that the same rows give the same interval.
    has_values: whether the column `values` is added, of pairs of a seed and its value; `frame` then has the column
    seed.
    Returns by, estimate, low, high (interval at LEVEL), seeds (with a result), missing (without). A setting without any
    result is a row of NaN; with a single seed low and high are NaN, since one seed has no spread. Seeds that all agree
    have an interval of no width, which bounds nothing: of an outcome that one seed in five has, 5 seeds see none in a
    third of all cases. For proportions see `share_over_seeds`.
    """
    groups = frame.groupby(list(by), dropna=False, sort=True)
    numbers, every = groups.ngroup().to_numpy(), frame[value].astype(float).to_numpy()
    order = np.argsort(numbers, kind="stable")
    rows = np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1) if len(order) else []  # positions of a setting
    settings = [every[positions] for positions in rows]
    measured = [values[~np.isnan(values)] for values in settings]
    summary = pd.DataFrame(groups.size().index.tolist(), columns=list(by))
    summary["estimate"] = [values.mean() if len(values) else np.nan for values in measured]
    summary[["low", "high"]] = _intervals(measured, generator or np.random.default_rng(0))
    summary["seeds"] = [len(values) for values in measured]
    summary["missing"] = [len(values) - len(kept) for values, kept in zip(settings, measured, strict=True)]
    if has_values:
        seeds = frame["seed"].to_numpy()
        pairs = [
            tuple((int(seeds[i]), float(every[i])) for i in positions if not np.isnan(every[i])) for positions in rows
        ]
        summary["values"] = pd.Series(pairs, dtype=object)
    return summary


def share_over_seeds(frame: pd.DataFrame, by: Sequence[str], value: str) -> pd.DataFrame:
    """Returns one row a setting: share of its rows (seeds) in which `value` is 1, with Wilson's interval at LEVEL.

    frame: one row a seed and setting; value: 1, 0 or NaN, a seed without a result.
    For binary values, resampling would give five seeds out of five an interval of no width; Wilson's gives 0.57 to 1.
    Returns by, estimate, low, high, seeds (with a result), missing (without).
    """
    groups = frame.groupby(list(by), dropna=False, sort=True)[value]
    summary = groups.agg(estimate="mean", seeds="count", missing=lambda values: int(values.isna().sum())).reset_index()
    n, p = summary["seeds"].astype(float).where(summary["seeds"] > 0), summary["estimate"].astype(float)
    z = stats.norm.ppf((1 + LEVEL) / 2)
    centre, half = p + z**2 / (2 * n), z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return summary.assign(
        estimate=p,
        low=((centre - half) / (1 + z**2 / n)).clip(lower=0),
        high=((centre + half) / (1 + z**2 / n)).clip(upper=1),
    )[[*by, "estimate", "low", "high", "seeds", "missing"]]


def median_over_seeds(frame: pd.DataFrame, by: Sequence[str], value: str, censored: str) -> pd.DataFrame:
    """Returns one row a setting: median of `value` over its rows (seeds), some of which are lower bounds (censored).

    frame: one row a seed and setting; NaN in `value` is a seed without a result; `censored` is true where the truth
    lies at `value` or beyond.
    The interval is that of the sign test, between two of the sorted seeds: the narrowest that covers the median with
    LEVEL, else all seeds (5 of them cover it with 94 %, 3 with 75 %).
    Returns by, estimate, low, high (infinite where that seed is censored), seeds, missing, censored (seeds), at_least
    (1 where half of the seeds or more are censored: then the median lies at the estimate or beyond). A single seed has
    no interval.
    """
    return by_group(frame, by, lambda rows: _median(rows[value], rows[censored]))


def median_interval(values: np.ndarray, upper: np.ndarray | None = None) -> tuple[float, float]:
    """Returns the sign test's interval for the median of values [S], as in `median_over_seeds`; NaN for one value.

    upper: [S], upper bounds of values that are not measured exactly.
    """
    n = len(values)
    if n < 2:
        return np.nan, np.nan
    rank = max(int(stats.binom.ppf((1 - LEVEL) / 2, n, 0.5)) - 1, 0)
    return float(np.sort(values)[rank]), float(np.sort(values if upper is None else upper)[n - 1 - rank])


def by_group(
    frame: pd.DataFrame, by: Sequence[str], facts: Callable[[pd.DataFrame], Mapping[str, Any]]
) -> pd.DataFrame:
    """Returns one row a group: its keys and the result of `facts` for its rows."""
    groups = frame.groupby(list(by), sort=True)
    return pd.DataFrame([{**dict(zip(by, key, strict=True)), **facts(rows)} for key, rows in groups])


def bootstrap_mean(
    values: np.ndarray, generator: np.random.Generator, level: float = LEVEL
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the bootstrap interval of each row's mean: low [S], high [S].

    values: [S, n], n >= 2 seeds of S settings.
    The expanded percentile interval (Hesterberg 2015, What Teachers Should Know About the Bootstrap, section 3.3):
    percentiles of resampled means, at a level raised so that for normal data the width is that of Student's interval.
    For normal data it covers the truth in 93 % of cases at n = 5 and 95 % from n = 10 on, where plain percentiles give
    85 % at n = 5. No resampled mean lies beyond the range of the seeds, so at n = 3 the interval is this range, and
    covers 75 %.
    """
    n = values.shape[1]
    tail = stats.norm.cdf(-np.sqrt(n / (n - 1)) * stats.t.ppf((1 + level) / 2, n - 1))
    drawn = generator.multinomial(n, np.full(n, 1 / n), size=RESAMPLES)  # [RESAMPLES, n], how often each seed
    deviations = (values - values.mean(1, keepdims=True)) @ drawn.T / n  # [S, RESAMPLES], of resampled means
    low, high = values.mean(1) + np.quantile(deviations, [tail, 1 - tail], axis=1)
    return low, high


def _median(values: pd.Series[Any], censored: pd.Series[Any]) -> dict[str, Any]:
    is_known = values.notna().to_numpy()
    least, beyond = values.to_numpy(float)[is_known], censored.to_numpy(bool)[is_known]
    upper = np.where(beyond, np.inf, least)
    n, (low, high) = len(least), median_interval(least, upper)
    return {
        "estimate": np.median(least) if n else np.nan,
        "low": low,
        "high": high,
        "seeds": n,
        "missing": len(values) - n,
        "censored": int(beyond.sum()),
        "at_least": int(n > 0 and np.isinf(np.median(upper))),
    }


def _intervals(groups: Sequence[np.ndarray], generator: np.random.Generator) -> np.ndarray:
    """Returns intervals [settings, 2]; settings with the same number of seeds are resampled with the same draws."""
    intervals = np.full((len(groups), 2), np.nan)
    for n in sorted({len(values) for values in groups} - {0, 1}):
        chosen = [i for i, values in enumerate(groups) if len(values) == n]
        draws = copy.deepcopy(generator)  # the same draws, independent of other settings
        intervals[chosen] = np.stack(bootstrap_mean(np.stack([groups[i] for i in chosen]), draws), axis=1)
    return intervals
