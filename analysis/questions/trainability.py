"""Which cells diverge at which learning rates? After Collins et al. 2017."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from memsweep.analysis.core import figures, frames, panels, series, statistics
from memsweep.analysis.core.arrangement import DEFAULT, View
from memsweep.analysis.questions import sequences
from memsweep.spec.schema import Status

QUERY = frames.TRIALS
DIVERGED, RATE = "settings that diverge (share)", "optimizer_learning_rate"
WORSE = 2.0
"""A trial counts as diverged from this multiple of the loss of guessing on, even with finite weights (ours)."""


def diverged(trials: pd.DataFrame) -> pd.Series[float]:
    """Returns 1 where weights are not finite, or the mean training loss at the end exceeds WORSE times guessing's.

    0 otherwise; NaN: no result (failed, or not stored).
    """
    loss = trials["train_loss_sum_nats"].astype(float) / trials["train_count"].astype(float)
    is_beyond = loss > WORSE * np.log(trials["class_count"].astype(float))
    did = (trials["status"] == Status.DIVERGED.value) | is_beyond
    return did.astype(float).where(trials["status"].isin(frames.SETTLED))


def summarize(trials: pd.DataFrame) -> pd.DataFrame:
    """Returns the share of seeds that diverge per cell and learning rate, with Wilson's interval at 95 %.

    Returns quantity, model_cell, optimizer_learning_rate, estimate, low, high, seeds, missing.
    """
    trials_with_outcome = trials.assign(diverged=diverged(trials))
    summary = statistics.share_over_seeds(trials_with_outcome, [sequences.CELL, RATE], "diverged")
    return summary.assign(quantity=DIVERGED)


def draw(summary: pd.DataFrame, ax: Axes, view: View = DEFAULT) -> Axes:
    """Draws the share against the learning rate, a curve a cell, set a little apart: most shares are 0 or 1."""
    axis = {"xscale": "log", "ylim": (-0.03, 1.03)}
    return series.draw(summary, ax, WHAT, {}, axis, view, apart=panels.SPREAD)


WHAT = (DIVERGED, RATE, sequences.CELL)
FIGURES = (
    figures.Figure(
        "diverged",
        "Settings that diverge",
        draw,
        f"Training ends with weights that are no numbers, or with more than {WORSE:g} times the loss of guessing. "
        "Bars: Wilson's interval over seeds, at 95 %. Cells are set a little apart along x.",
        rows=frames.of_quantity(DIVERGED),
        axes=partial(series.keys, what=WHAT, selection={}),
    ),
)
