"""Are all examples equally hard? How often each is right after one epoch, after Arpit et al. 2017, figure 1."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
from scipy import stats

from memsweep.analysis.core import figures, frames, series

QUERY = """with answers as (
select w.setting_id, w.position, e.trial_id, e.example, e.given_label,
(e.first_learned_step is not null)::int as is_right,
avg(is_right) over (partition by e.trial_id, e.given_label) as share
from wanted w join trials t using (trial_id) join examples e using (trial_id)
where w.sweep = '{sweep}' and t.status in ('finished', 'pruned'))
select w.setting_id, w.trial_id, w.seed, t.status, w.position
from wanted w left join trials t using (trial_id) where w.sweep = '{sweep}'
union all by name
select setting_id, min(trial_id) as trial_id, 0 as seed, 'finished' as status,
min(position) as position,
example, given_label, count(*) as run_count, sum(is_right)::bigint as right_count, sum(share * (1 - share)) as variance
from answers group by setting_id, example, given_label
order by run_count is not null, position, example"""
"""A row a trial; then how often each training example is right over the runs of a setting, and the variance of that
count if all examples of a class were equally hard in each run. For trials that are measured once."""

RIGHT = "share of runs in which it is right"
DATA = {"none": "real data", "labels": "random labels", "gaussian_inputs": "noise inputs"}
REFERENCE = "equally hard"
SHOWN = 100
"""Largest number of examples shown of a curve, evenly chosen."""


def summarize(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns each example's share of runs in which it is right, per kind of data, hardest first.

    rows: of QUERY, with the fields of their trials (`frames.read`).
    REFERENCE: quantiles of `equally_hard`, for noise inputs.
    Returns quantity, data, rank (share of examples that are as hard or harder), estimate, low, high (NaN, as each row
    is a single example), missing (runs of this kind that have no result).
    """
    trials, rows = rows[rows["run_count"].isna()], rows[rows["run_count"].notna() & frames.usable(rows)]
    missing = trials[~frames.usable(trials)].groupby("data_noise_kind").size().rename(DATA)
    shares = rows["right_count"] / rows["run_count"]
    curves = {str(kind): np.sort(of_kind.to_numpy(float)) for kind, of_kind in shares.groupby(rows["data_noise_kind"])}
    if "gaussian_inputs" in curves:
        curves[REFERENCE] = equally_hard(rows[rows["data_noise_kind"] == "gaussian_inputs"])
    pieces = []
    for kind, curve in curves.items():
        at = np.unique(np.linspace(0, len(curve) - 1, SHOWN).round().astype(int))
        pieces.append(
            pd.DataFrame({"data": DATA.get(kind, kind), "rank": (at + 1) / len(curve), "estimate": curve[at]})
        )
    points = pd.concat(pieces, ignore_index=True) if pieces else pd.DataFrame(columns=["data", "rank", "estimate"])
    absent = points["data"].map(missing).fillna(0).astype(int)
    return points.assign(quantity=RIGHT, low=np.nan, high=np.nan, missing=absent)


def equally_hard(rows: pd.DataFrame) -> np.ndarray:
    """Returns sorted shares of runs [N] in which examples would be right, if all of a class were as hard in each run.

    rows: one an example, with given_label, run_count, right_count and variance. In run r each example of class c is
    then right with the share p_rc of the class that is, and its count of right runs is a Poisson binomial variable with
    mean sum_r p_rc and variance sum_r p_rc (1 - p_rc). It is computed as the binomial of this mean and variance.
    Shares of classes that a network favours differ, so a single binomial of the mean share would be too narrow.
    """
    runs = int(rows["run_count"].max())
    counts, cumulated = np.arange(runs + 1), np.zeros(runs + 1)
    for _, of_class in rows.groupby("given_label"):
        mean, variance = float(of_class["right_count"].mean()), float(of_class["variance"].mean())
        p = 1 - variance / mean if mean > 0 else 0.0
        tries = max(1, round(mean / p)) if p > 0 else runs
        cumulated += len(of_class) / len(rows) * stats.binom.cdf(counts, tries, mean / tries)
    places = (np.arange(len(rows)) + 0.5) / len(rows)
    return np.asarray(np.minimum(np.searchsorted(cumulated, places), runs) / runs)


FIGURES = (
    figures.Figure(
        "difficulty",
        "How hard each training example is",
        partial(
            series.draw,
            what=(RIGHT, "rank", "data"),
            selection={},
            axis={"xlabel": "training examples (share)", "ylim": (0, 1.02)},
        ),
        "Share of runs in which a training example's given label is predicted after one epoch, hardest first; runs "
        "differ in first weights and order, not in data. Equally hard: quantiles that noise inputs would have if in "
        "each run all examples of a class were equally likely to be right, as many as are; a network favours some "
        "classes after one epoch.",
        fixed="each point is an example, in the order of difficulty",
    ),
)
