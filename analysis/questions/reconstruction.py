"""How much of a vector of numbers comes back from cells with fewer and with more units? After Collins et al. 2017."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from memsweep.analysis.core import figures, frames, series
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


def draw(summary: pd.DataFrame, ax: Axes) -> Axes:
    """Draws the error against units a number, a curve a cell, at the longest sequence."""
    shown = summary[summary[sequences.LENGTH] == summary[sequences.LENGTH].max()]
    if shown["estimate"].notna().any():
        x = np.linspace(shown[UNITS].min(), shown[UNITS].max(), 50)
        figures.reference(ax, x, lost(x), "1 - units a number: best linear code")
        figures.reference(ax, x, np.full(len(x), SOLVED), f"{SOLVED}: counts as reconstructed", ":")
    axis = {"xlabel": "units a number (n_h / n_in)", "ylim": (-0.02, 1.0)}
    return series.draw(shown, ax, (ERROR, UNITS, sequences.CELL), {}, axis)


FIGURES = (
    figures.Figure(
        "error",
        "A vector that comes back",
        draw,
        "Validation vectors of normal numbers, shown at the first step and required at the last; always answering 0 "
        f"has an error of 1. {series.OVER_SEEDS}",
        rows=figures.of_quantity(ERROR),
    ),
)
