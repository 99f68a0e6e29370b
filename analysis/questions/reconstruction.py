"""How much of a vector of numbers comes back from cells with fewer and with more units? After Collins et al. 2017."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from memsweep.analysis.core import figures, frames, series
from memsweep.analysis.core.arrangement import DEFAULT, View
from memsweep.analysis.questions import sequences

QUERY = frames.TRIALS
ERROR, UNITS = "squared error of a number", "units a number"
GROUPS = [sequences.CELL, UNITS, sequences.LENGTH]
SOLVED = 0.01
"""Squared error of a number, of variance 1, below which a vector counts as reconstructed."""


def lost(units_a_number: np.ndarray) -> np.ndarray:
    """Returns the squared error of the best linear code: the share of the variance outside as many directions as units.

    >>> lost(np.array([0.25, 1.0, 2.0]))
    array([0.75, 0.  , 0.  ])
    """
    return np.maximum(0.0, 1.0 - units_a_number)


def errors(trials: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows with the squared error of a number of validation vectors, and the units a number."""
    trials_measured = sequences.measured(trials)
    return trials_measured.assign(
        **{ERROR: trials_measured["value"], UNITS: trials_measured["model_width"] / trials_measured["data_input_dim"]}
    )


def summarize(trials: pd.DataFrame) -> pd.DataFrame:
    """Returns the squared error per cell, units a number, and length, over seeds.

    Returns quantity, model_cell, units a number, data_sequence_length, estimate, low, high, seeds, missing.
    """
    rows = errors(trials)
    return series.summarize(rows, {ERROR: rows[ERROR]}, GROUPS)


def draw(summary: pd.DataFrame, ax: Axes, view: View = DEFAULT) -> Axes:
    """Draws the error against units a number, a curve a cell, a panel a length."""
    axis = {"xlabel": "units a number (n_h / n_in)", "ylim": (-0.02, 1.0)}
    return series.draw(summary, ax, WHAT, {}, axis, view, lines=_theory)


def _theory(ax: Axes, rows: pd.DataFrame, x: str) -> None:
    """Draws the error of the best linear code, and the one that counts as reconstructed."""
    places = np.linspace(rows[x].min(), rows[x].max(), 50)
    if x == UNITS:
        figures.reference(ax, places, lost(places), "1 - units a number: best linear code")
    figures.reference(ax, places, np.full(len(places), SOLVED), f"{SOLVED}: counts as reconstructed", ":")


WHAT = (ERROR, UNITS, sequences.CELL)
FIGURES = (
    figures.Figure(
        "error",
        "A vector that comes back",
        draw,
        "Validation vectors of normal numbers, shown at the first step and required at the last; always answering 0 "
        f"has an error of 1. {series.OVER_SEEDS}",
        rows=frames.of_quantity(ERROR),
        axes=partial(series.keys, what=WHAT, selection={}),
    ),
)
