"""Exponents of power laws, fitted on logarithmic axes for each seed."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from memsweep.analysis.core import statistics

LEAST = 3
"""Fewest places at which a seed must have a value above 0."""


class Power(NamedTuple):
    """value = factor * x ** exponent; means over seeds."""

    exponent: float
    low: float  # of the bootstrap interval over seeds, at statistics.LEVEL; NaN for one seed
    high: float
    factor: float  # geometric mean
    seeds: int

    def __str__(self) -> str:
        exponent, low, high = (f"{round(number, 2) + 0.0:.2f}" for number in self[:3])  # never -0.00
        return f"exponent {exponent}" + ("" if np.isnan(self.low) else f" ({low} to {high})")

    def line(self, x: pd.Series[float]) -> tuple[np.ndarray, np.ndarray]:
        """Returns the ends of the fitted line: x [2], values [2]."""
        ends = np.array([x[x > 0].min(), x.max()], float)
        return ends, self.factor * ends**self.exponent


def fitted(points: pd.DataFrame, x: str) -> Power | None:
    """Returns the mean over seeds of each seed's exponent: the slope of log value against log x, by least squares.

    points: one row a place, with `values`: pairs of a seed and its value.
    A seed takes part if it has values above 0 at LEAST or more places.  None if no seed does.
    """
    fits = []
    pairs = [
        (place, *pair)
        for place, values in zip(points[x], points.get("values", [()] * len(points)), strict=True)
        for pair in values
    ]
    frame = pd.DataFrame(pairs, columns=["x", "seed", "value"]).astype({"x": float, "value": float})
    for _, of_seed in frame[(frame["x"] > 0) & (frame["value"] > 0)].groupby("seed"):
        if of_seed["x"].nunique() >= LEAST:
            fits.append(np.polyfit(np.log(of_seed["x"]), np.log(of_seed["value"]), 1))
    if not fits:
        return None
    slopes, offsets = np.array(fits).T
    low, high = (
        (float(end[0]) for end in statistics.bootstrap_mean(slopes[None], np.random.default_rng(0)))
        if len(slopes) > 1
        else (np.nan, np.nan)
    )
    return Power(float(slopes.mean()), low, high, float(np.exp(offsets.mean())), len(slopes))
