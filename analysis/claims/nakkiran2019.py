"""Claims of Nakkiran et al. (2019), Deep Double Descent: Where Bigger Models and More Data Hurt.

Some seeds choose the width or the time of a peak, and the others are measured there: the largest of many noisy
differences is above 0 by chance.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from memsweep.analysis.claims.claim import Basis, Claim, Evidence, Margin, MissingTrialsError, Paper, within
from memsweep.analysis.core import frames
from memsweep.analysis.questions.double_descent import (
    DECAY,
    EXAMPLES,
    INTERPOLATED,
    NOISE,
    TEST,
    TRAIN,
    WIDTH,
    beside,
    errors,
    middle,
)

CHOOSING = 4
"""Seeds, the first ones, that choose where the others are measured."""
OCTAVES = 1.0
"""Largest distance between peak and threshold, in doublings of the width (bound ours)."""


class Shape(NamedTuple):
    """Places of a dip and of a peak behind it, chosen by the first seeds, and errors of all others."""

    dip: int  # place along the axis
    peak: int
    rise: np.ndarray  # [S - CHOOSING], error at the peak less error at the dip
    fall: np.ndarray  # [S - CHOOSING], error at the peak less error at the end of the axis


def shape(errors: np.ndarray) -> Shape:
    """Returns the largest rise along an axis: places where the mean error of the first CHOOSING seeds rises most.

    errors: [S, n] by seed along the axis.  NaN where a seed has no result.
    """
    mean = _mean(errors[:CHOOSING])
    rises = np.where(np.triu(np.ones((len(mean), len(mean)), bool), 1), mean - mean[:, None], -np.inf)  # [dip, peak]
    dip, peak = np.unravel_index(int(np.nanargmax(rises)), rises.shape)
    measured = errors[CHOOSING:]
    at_peak = measured[:, peak]
    return Shape(int(dip), int(peak), at_peak - measured[:, dip], at_peak - measured[:, -1])


def _mean(errors: np.ndarray) -> np.ndarray:
    """Returns the mean over seeds [n]; NaN where none has a result.  errors: [S, n]."""
    return np.asarray(np.ma.masked_invalid(errors).mean(axis=0).filled(np.nan))


def by_width(trials: pd.DataFrame, quantity: str) -> pd.DataFrame:
    """Returns an error [seeds, widths] of one block.

    Raises MissingTrialsError with fewer than 3 widths, or without seeds to measure.
    """
    table = trials.pivot_table(index="seed", columns=WIDTH, values=quantity, aggfunc="mean", dropna=False)
    if table.shape[1] < 3 or len(table) <= CHOOSING:
        raise MissingTrialsError(f"fewer than three widths or {CHOOSING + 1} seeds of one block")
    return table


def _block(trials: pd.DataFrame, field: str = "", largest: bool = False) -> pd.DataFrame:
    """Returns the trials of the middle block, or of the block with another value of a field.

    largest: the largest other value, else the smallest.
    """
    chosen = beside(trials, field)
    if not field:
        return chosen
    others = chosen.loc[chosen[field] != middle(trials)[field], field]
    if others.empty:
        raise MissingTrialsError(f"no trial with another {frames.short(field)}")
    other: pd.DataFrame = chosen[chosen[field] == (others.max() if largest else others.min())]
    return other


def _shape_of(trials: pd.DataFrame) -> Shape:
    return shape(by_width(_block(trials), TEST).to_numpy(float))


def model_wise(trials: pd.DataFrame) -> list[Evidence]:
    """Returns how far test error rises with the width to its peak, and falls from there to the widest network."""
    by_seed = _shape_of(errors(trials))
    return [
        Margin("test error, at the peak - at the dip before it", by_seed.rise),
        Margin("test error, at the peak - of the widest network", by_seed.fall),
    ]


def at_threshold(trials: pd.DataFrame) -> list[Evidence]:
    """Returns the distance of a seed's peak from its interpolation threshold, in doublings of the width.

    The peak is the seed's largest test error behind the dip; the threshold its smallest width from which on its train
    error is at most INTERPOLATED.
    """
    block = _block(errors(trials))
    tested, trained = by_width(block, TEST), by_width(block, TRAIN).to_numpy(float)[CHOOSING:]
    logs, values = np.log2(tested.columns.to_numpy(float)), tested.to_numpy(float)
    behind = shape(values).dip + 1
    distance = np.full(len(trained), np.nan)
    for seed, (error, train) in enumerate(zip(values[CHOOSING:], trained, strict=True)):
        above = np.flatnonzero(~(train <= INTERPOLATED))
        first = above[-1] + 1 if len(above) else 0
        if first < len(logs) and not np.isnan(error[behind:]).any():
            distance[seed] = logs[behind + int(error[behind:].argmax())] - logs[first]
    return within("log2 of the width at the peak over that at the threshold", distance, OCTAVES)


def _less(trials: pd.DataFrame, field: str, what: str, *, largest: bool) -> list[Evidence]:
    """Returns how much larger the rise to the peak is in the middle block than, at the same widths, in another."""
    trials = errors(trials)
    by_seed, middle_errors = _shape_of(trials), by_width(_block(trials), TEST)
    other = by_width(_block(trials, field, largest), TEST).reindex_like(middle_errors).to_numpy(float)[CHOOSING:]
    rise = other[:, by_seed.peak] - other[:, by_seed.dip]
    return [Margin(f"rise of test error to the peak, {what}", by_seed.rise - rise)]


def noise_makes_peak(trials: pd.DataFrame) -> list[Evidence]:
    """Returns how much larger the rise to the peak is with wrong labels than without."""
    return _less(trials, NOISE, "with - without wrong labels", largest=False)


def decay_lowers_peak(trials: pd.DataFrame) -> list[Evidence]:
    """Returns how much larger the rise to the peak is without weight decay than with the strongest."""
    return _less(trials, DECAY, "without - with weight decay", largest=True)


def epoch_wise(rows: pd.DataFrame) -> list[Evidence]:
    """Returns how far the validation error of the widest network rises during training, and falls until its end."""
    chosen = beside(rows[rows["step"].notna()])
    chosen = chosen[chosen[WIDTH] == chosen[WIDTH].max()]
    share = frames.share(chosen["validation_correct_count"], chosen["validation_count"])
    table = chosen.assign(error=1 - share).pivot_table(index="seed", columns="step", values="error", dropna=False)
    if len(table) <= CHOOSING or table.shape[1] < 3:
        raise MissingTrialsError(f"fewer than three measurements or {CHOOSING + 1} seeds of the widest network")
    by_seed = shape(table.to_numpy(float))
    return [
        Margin("validation error of the widest network, at the peak - at the dip before it", by_seed.rise),
        Margin("validation error of the widest network, at the peak - at the end", by_seed.fall),
    ]


def sample_wise(trials: pd.DataFrame) -> list[Evidence]:
    """Returns how much larger test error is with more examples, at the width where more hurt the first seeds most."""
    trials = errors(trials)
    more, fewer = _block(trials), _block(trials, EXAMPLES)
    if middle(trials)[EXAMPLES] < fewer[EXAMPLES].iloc[0]:
        more, fewer = fewer, more
    harm = (by_width(more, TEST) - by_width(fewer, TEST)).to_numpy(float)
    worst = int(np.nanargmax(_mean(harm[:CHOOSING])))
    return [Margin("test error, with more - with fewer examples", harm[CHOOSING:, worst])]


_CHOSEN = f"the first {CHOOSING} seeds choose the places, the others are measured; sign tests over seeds; no bounds"

PAPER = Paper(
    "nakkiran2019",
    "Nakkiran et al. 2019, Deep Double Descent: Where Bigger Models and More Data Hurt",
    "The abstract and summaries were read; networks, data and sizes are ours.",
    (
        Claim(
            1,
            "As networks grow, test error falls, rises to a peak, and falls again.",
            Basis.ABSTRACT,
            "With wrong labels: a seed's test error at the width of the peak less that at the dip before it, and less "
            f"that of the widest network, above 0 ({_CHOSEN}).",
            ("double_descent",),
            model_wise,
            shuffled=(WIDTH,),
        ),
        Claim(
            2,
            "The peak lies where networks are just able to fit their training set.",
            Basis.RECONSTRUCTION,
            "With wrong labels: the width of a seed's largest test error behind the dip is at most twice, and at least "
            f"half, the smallest width from which on its train error is at most {INTERPOLATED:g} (factor and error "
            "ours); two one-sided sign tests over seeds.",
            ("double_descent",),
            at_threshold,
            shuffled=(WIDTH,),
        ),
        Claim(
            3,
            "Wrong labels make the peak: it is higher with them than without.",
            Basis.RECONSTRUCTION,
            "Rise of a seed's test error from dip to peak, with wrong labels less without at the same widths, above 0 "
            f"({_CHOSEN}).",
            ("double_descent",),
            noise_makes_peak,
            shuffled=(NOISE,),
        ),
        Claim(
            4,
            "Double descent occurs over the epochs of training, too.",
            Basis.ABSTRACT,
            "With wrong labels: a seed's validation error of the widest network at the time of the peak less that at "
            f"the dip before it, and less that at the end, above 0 ({_CHOSEN}).",
            ("double_descent",),
            epoch_wise,
            rows=frames.CURVES,
            shuffled=("step",),
        ),
        Claim(
            5,
            "At some sizes of networks more training examples increase test error.",
            Basis.ABSTRACT,
            "With wrong labels: a seed's test error with twice as many examples less that with fewer, at the width "
            f"where this difference is largest among the first {CHOOSING} seeds, above 0; sign test over the others.",
            ("double_descent",),
            sample_wise,
            shuffled=(EXAMPLES,),
        ),
        Claim(
            6,
            "Weight decay lowers the rise of test error at the widths of the peak without it.",
            Basis.EXTENSION,
            "Rise of a seed's test error from dip to peak without weight decay, less with it at the same widths, above "
            f"0 ({_CHOSEN}).",
            ("double_descent",),
            decay_lowers_peak,
            shuffled=(DECAY,),
        ),
    ),
)
