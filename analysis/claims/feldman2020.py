"""Claims of Feldman and Zhang (2020), What Neural Networks Memorize and Why, and of Lukasik et al. (2023) on widths.

Replicates are disjoint blocks of subsets of one pool, so that verdicts are about the examples of that pool.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from memsweep.analysis.claims.claim import Basis, Claim, Evidence, Margin, MissingTrialsError, Paper, Trend
from memsweep.analysis.questions import memorization

BLOCKS = 12
WIDTH, NOISE = "model_width", "data_noise_fraction"
ROWS = f"""with answers as (
select w.setting_id, w.seed, m.trial_id, m.example, m.is_trained, m.is_right, m.corrupted,
w.seed % {2 * BLOCKS} as half
from wanted w join trials t using (trial_id) join memorization m using (trial_id)
where w.sweep = '{{sweep}}' and t.status in ('finished', 'pruned') and m.part = 'pool'),
scores as (
select setting_id, half // 2 as block, half % 2 as which, example, any_value(corrupted) as corrupted,
min(trial_id) as trial_id,
avg(is_right::int) filter (is_trained) - avg(is_right::int) filter (not is_trained) as score
from answers group by setting_id, half, example),
blocks as (
select setting_id, block, any_value(corrupted) as corrupted, min(trial_id) as trial_id, avg(score) as score,
max(score) filter (which = 0) as first, max(score) filter (which = 1) as second
from scores group by setting_id, block, example)
select setting_id, min(trial_id) as trial_id, block as seed, 'finished' as status,
avg(score) filter (not corrupted) as true_score, avg(score) filter (corrupted) as wrong_score,
corr(first, second) filter (not corrupted) as agreement
from blocks group by setting_id, block order by setting_id, block"""
"""A row for each setting and block of subsets, each example's score measured on two halves of the block: mean scores of
examples with true and with wrong labels, and the correlation of the halves over examples with true labels."""


def _at(rows: pd.DataFrame, column: str, *, noise: str, width: str = "max") -> pd.Series[float]:
    """Returns a column by block, at the least (min) or most (max) noise and width.  Raises MissingTrialsError."""
    chosen = rows[rows[NOISE] == getattr(rows[NOISE], noise)()]
    chosen = chosen[chosen[WIDTH] == getattr(chosen[WIDTH], width)()]
    values: pd.Series[float] = chosen.set_index("seed")[column].astype(float)
    if values.isna().all():
        raise MissingTrialsError(f"no {column.replace('_', ' ')} at the {noise} of noise")
    return values


def _along_width(rows: pd.DataFrame, column: str, noise: str) -> np.ndarray:
    """Returns a column [blocks, widths].  Raises MissingTrialsError with fewer than three widths."""
    chosen = rows[rows[NOISE] == getattr(rows[NOISE], noise)()]
    table = chosen.pivot_table(index="seed", columns=WIDTH, values=column, dropna=False)
    if table.shape[1] < 3:
        raise MissingTrialsError("fewer than three widths")
    values: np.ndarray = table.to_numpy(float)
    return values


def wrong_labels(rows: pd.DataFrame) -> list[Evidence]:
    """Returns the mean scores of wrong and of true labels in the widest network, with noise."""
    return [
        Margin("mean score of wrong labels", _at(rows, "wrong_score", noise="max").to_numpy(), 0.75),
        Margin("minus the mean score of true labels", -_at(rows, "true_score", noise="max").to_numpy(), -0.25),
    ]


def less_with_width(rows: pd.DataFrame) -> list[Evidence]:
    """Returns how the mean score of true labels falls along the widths, without noise."""
    return [Trend("- mean score by width, without noise", -_along_width(rows, "true_score", "min"))]


def wrong_more_with_width(rows: pd.DataFrame) -> list[Evidence]:
    """Returns how the mean score of wrong labels rises along the widths."""
    return [Trend("mean score of wrong labels by width", _along_width(rows, "wrong_score", "max"))]


def true_more_with_noise(rows: pd.DataFrame) -> list[Evidence]:
    """Returns how much higher true labels score with wrong labels around them, in the widest network."""
    more, less = (_at(rows, "true_score", noise=noise) for noise in ("max", "min"))
    if rows[NOISE].nunique() < 2:
        raise MissingTrialsError("no trial with another noise fraction")
    return [Margin("mean score of true labels, with - without wrong labels", (more - less).to_numpy())]


def repeats(rows: pd.DataFrame) -> list[Evidence]:
    """Returns how scores from disjoint subsets correlate over examples with true labels, without noise."""
    values = _at(rows, "agreement", noise="min").to_numpy()
    return [Margin("correlation of scores between halves of a block of subsets", values)]


def helps_its_class(rows: pd.DataFrame) -> list[Evidence]:
    """Returns the mean influence of training examples on test examples of their own class, less on other classes."""
    answered = rows[rows["answers"].notna()]
    if answered.empty:
        raise MissingTrialsError("no finished trial on a subset")
    chosen = answered[answered[NOISE] == answered[NOISE].min()]
    chosen = chosen[chosen[WIDTH] == chosen[WIDTH].max()]
    answers = memorization.answers_of(chosen)
    if not len(answers.tested):
        raise MissingTrialsError("no test examples")
    is_same = answers.labels[:, None] == answers.test_labels
    differences = []
    for block in np.array_split(np.arange(answers.trained.shape[1]), BLOCKS):
        influence = memorization.influences(answers.trained[:, block], answers.tested[:, block])
        means = [np.nanmean(np.where(which, influence, np.nan)) for which in (is_same, ~is_same)]
        differences.append(means[0] - means[1])
    return [Margin("influence on test examples, same class - other classes", np.array(differences))]


_BLOCK = f"sign test over {BLOCKS} disjoint blocks of subsets"
_SWEEPS = ("memorization",)

PAPER = Paper(
    "feldman2020",
    "Feldman & Zhang 2020, What Neural Networks Memorize and Why; Lukasik et al. 2023, What Do Larger Image "
    "Classifiers Memorise?",
    "The abstracts were read; networks, data, sizes and bounds are ours.",
    (
        Claim(
            1,
            "Mislabelled examples are fitted by memorizing: with them a network gives the label, without them not.",
            Basis.ABSTRACT,
            "In the widest network with a fifth of labels wrong, the mean score is above 0.75 over wrong labels and "
            f"below 0.25 over true ones (bounds ours); {_BLOCK}.",
            _SWEEPS,
            wrong_labels,
            rows=ROWS,
        ),
        Claim(
            2,
            "Larger networks memorize most examples less (Lukasik et al.).",
            Basis.ABSTRACT,
            "Without wrong labels, the mean score falls along the widths (Page's trend test over disjoint blocks of "
            "subsets). The mean over examples is ours; the abstract counts examples.",
            _SWEEPS,
            less_with_width,
            rows=ROWS,
            shuffled=(WIDTH,),
        ),
        Claim(
            3,
            "Larger networks memorize wrong labels more.",
            Basis.EXTENSION,
            "The mean score of wrong labels rises along the widths (Page's trend test over disjoint blocks of "
            "subsets).",
            _SWEEPS,
            wrong_more_with_width,
            rows=ROWS,
            shuffled=(WIDTH,),
        ),
        Claim(
            4,
            "Among wrong labels, true labels are memorized more than without them.",
            Basis.EXTENSION,
            f"Mean score of true labels in the widest network, with less without wrong labels, above 0; {_BLOCK}.",
            _SWEEPS,
            true_more_with_noise,
            rows=ROWS,
            shuffled=(NOISE,),
        ),
        Claim(
            5,
            "Correctly labelled examples differ in how much they are memorized: some are rare and atypical.",
            Basis.ABSTRACT,
            "Without wrong labels, in the widest network: scores of the same examples from disjoint halves of a block "
            f"of subsets correlate above 0; {_BLOCK}. Whether such examples are rare or atypical is not tested.",
            _SWEEPS,
            repeats,
            rows=ROWS,
        ),
        Claim(
            6,
            "Training examples help test examples that are alike.",
            Basis.RECONSTRUCTION,
            "In the widest network without wrong labels: mean influence over pairs of a training and a test example of "
            f"the same class less that of other classes, above 0; {_BLOCK}. Alike is the same class here (ours).",
            _SWEEPS,
            helps_its_class,
            rows=memorization.QUERY,
        ),
    ),
)
