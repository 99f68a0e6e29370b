"""Which share of random labellings does a linear network fit? Beside Cover's count of those that are separable."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from scipy import stats

from memsweep.analysis.core import figures, frames, series, statistics
from memsweep.analysis.core.arrangement import DEFAULT, View

QUERY = frames.TRIALS
FITTED, WEIGHTS, RATIO = "labellings fitted", "weights", "points a weight"


def separable(points: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Returns the share of labellings of N points in general position that d weights separate (Cover 1965).

    C(N, d) / 2^N with C(N, d) = 2 sum of binom(N - 1, k) over k < d; with a bias, d is one more than the inputs.

    >>> separable(np.array([20, 10]), np.array([10, 10]))
    array([0.5, 1. ])
    """
    return np.asarray(stats.binom.cdf(weights - 1, points - 1, 0.5))


def fitted(trials: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows with weights, points a weight, and whether all labels were fitted (1, 0; NaN: no result)."""
    is_fitted = trials["fitted_step"].notna().astype(float).where(frames.usable(trials))
    weights = trials["data_input_dim"] + 1
    return trials.assign(**{WEIGHTS: weights, RATIO: trials["data_examples"] / weights, "fitted": is_fitted})


def summarize(trials: pd.DataFrame) -> pd.DataFrame:
    """Returns the share of labellings fitted per weights and points, with Wilson's interval at 95 %, and Cover's share.

    Returns quantity, weights, points a weight, data_examples, estimate, low, high, seeds (labellings), missing,
    separable.
    """
    summary = statistics.share_over_seeds(fitted(trials), [WEIGHTS, RATIO, "data_examples"], "fitted")
    share = separable(summary["data_examples"].to_numpy(int), summary[WEIGHTS].to_numpy(int))
    return summary.assign(quantity=FITTED, separable=share)


def draw(summary: pd.DataFrame, ax: Axes, view: View = DEFAULT) -> Axes:
    """Draws shares against points a weight, a curve a number of weights, beside Cover's."""
    axis = {"xlabel": "points a weight (N / d)", "ylabel": "labellings fitted (share)", "ylim": (0, 1.02)}
    has_theory = view.within(series.keys(summary, WHAT, {})).x in ("", RATIO) and not view.y
    return series.draw(summary, ax, WHAT, {}, axis, view, **({"mark": _cover} if has_theory else {}))


def _cover(ax: Axes, points: pd.DataFrame, color: str) -> None:
    """Draws Cover's share beside the points of one number of weights."""
    for weights in points[WEIGHTS].unique():
        x = np.arange(round(points[RATIO].min() * weights), round(points[RATIO].max() * weights) + 1)
        ax.plot(x / weights, separable(x, np.full(len(x), weights)), ":", color=color, zorder=1)


WHAT = (FITTED, RATIO, WEIGHTS)
FIGURES = (
    figures.Figure(
        "fitted",
        "Random labellings that a linear network fits",
        draw,
        "Dotted: Cover's share of labellings that are linearly separable, for as many weights, bias included. Bars: "
        "Wilson's interval over labellings, at 95 %.",
        axes=partial(series.keys, what=WHAT, selection={}),
    ),
)
