"""Which cells diverge at which learning rates? After Collins et al. 2017."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.core import figures, frames, series, statistics
from analysis.questions import sequences
from memsweep.spec.schema import Status

QUERY = frames.TRIALS
DIVERGED, RATE = "settings that diverge (share)", "optimizer_learning_rate"
STATUSES = (*frames.USABLE, Status.DIVERGED.value)
"""Of trials of which it is known whether they diverge."""
WORSE = 2.0
"""Times the loss of guessing at which a trial counts as diverged though its weights are numbers (ours)."""


def diverged(trials: pd.DataFrame) -> pd.Series[float]:
    """1: weights are no numbers, or the mean loss of training examples at the end is beyond WORSE times guessing's.

    0 otherwise; NaN: not known (failed, or not stored).
    """
    loss = trials["train_loss_sum_nats"].astype(float) / trials["train_count"].astype(float)
    is_beyond = loss > WORSE * np.log(trials["class_count"].astype(float))
    did = (trials["status"] == Status.DIVERGED.value) | is_beyond
    return did.astype(float).where(trials["status"].isin(STATUSES))


def summarize(trials: pd.DataFrame) -> pd.DataFrame:
    """Per cell and learning rate: the share of seeds that diverge, with Wilson's interval at 95 %.

    Returns quantity, model_cell, optimizer_learning_rate, estimate, low, high, seeds, missing.
    """
    known = trials.assign(diverged=diverged(trials))
    found = statistics.share_over_seeds(known, [sequences.CELL, RATE], "diverged")
    return found.assign(quantity=DIVERGED)


def draw(summary: pd.DataFrame, ax: Axes) -> Axes:
    """The share against the learning rate, a curve a cell."""
    return series.draw(summary, ax, (DIVERGED, RATE, sequences.CELL), {}, {"xscale": "log", "ylim": (-0.03, 1.03)})


FIGURES = (
    figures.Figure(
        "diverged",
        "Settings that diverge",
        draw,
        f"Training ends with weights that are no numbers, or with more than {WORSE:g} times the loss of guessing. "
        "Bars: Wilson's interval over seeds, at 95 %.",
        rows=figures.of_quantity(DIVERGED),
    ),
)
