"""Tables and evidence in which a claim should not hold, and in which it should, for the controls of its test."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from memsweep.analysis.claims.claim import Evidence, Margin, MissingTrialsError, Trend
from memsweep.analysis.core import frames

SIZE = "data_examples"


def untrained(rows: pd.DataFrame, keys: tuple[str, ...]) -> pd.DataFrame:
    """Returns the rows with every measurement replaced by that of the same network before training.

    rows: with `step`, a measurement a row.  keys: columns that, with trial and step, identify a measurement.
    Measurements without a counterpart at step 0 are left out. Raises MissingTrialsError where nothing was measured at
    step 0.
    """
    start = rows[rows["step"] == 0]
    if start.empty:
        raise MissingTrialsError("no measurement before training")
    places = rows[["trial_id", "step", *keys]].dropna(subset="step").drop_duplicates()
    return places.merge(start.drop(columns="step"), on=["trial_id", *keys], how="inner")


def with_effect(evidence: Evidence, size: float, generator: np.random.Generator) -> Evidence:
    """Returns evidence of as many replicates with an effect of a stated size, and the replicates' own spread about it.

    size: standard deviations between replicates: how far a margin's median lies beyond its bound, or a trend rises from
    its first setting to its last. The median of a margin with an ideal lies there, whatever the size; at size 0 every
    median lies on its bound. Deviations of replicates from their median (a trend's: what the means of replicates and
    settings leave) are drawn with replacement; where all replicates agree, a standard deviation counts as 1. Facts, and
    evidence with a test of its own, are returned unchanged.
    """
    if not isinstance(evidence, Margin | Trend):
        return evidence
    values = np.asarray(evidence.values, float)
    is_complete = np.isfinite(values.reshape(len(values), -1)).all(axis=1)
    values = values[is_complete]
    if not len(values):
        return evidence
    drawn = generator.integers(len(values), size=len(values))
    if isinstance(evidence, Trend):
        deviations = values - values.mean(axis=0) - values.mean(axis=1, keepdims=True) + values.mean()
        rise = size * (deviations.std() or 1.0) * np.linspace(0, 1, values.shape[1])
        return replace(evidence, values=rise + deviations[drawn])
    deviations = values - np.median(values)
    centre = evidence.above + size * (deviations.std() or 1.0)
    centre = evidence.ideal if evidence.ideal is not None and size else centre
    return replace(evidence, values=centre + deviations[drawn])


def shuffled(
    rows: pd.DataFrame, columns: tuple[str, ...], generator: np.random.Generator, *, is_whole: bool = False
) -> pd.DataFrame:
    """Returns the rows with these columns exchanged among the trials of a seed that agree in all other fields.

    is_whole: all trials of a seed that agree in all fields but the size of their training set are exchanged together,
    as one result. A bisection chooses sizes by the results before, so that the sizes that a network was given still
    show what it fits where single trials are exchanged.
    A single column that changes within trials, in the course of their training, is exchanged within each trial, among
    the times when it was measured.
    """
    if len(columns) == 1 and rows.groupby("trial_id")[columns[0]].nunique().max() > 1:
        return _retimed(rows, columns[0], generator)
    trials = rows.drop_duplicates("trial_id")
    fixed = ["sweep", "seed", *(column for column in frames.varying(trials) if column not in columns)]
    fixed = [column for column in fixed if column != SIZE or not is_whole]
    unit = [*fixed, *columns] if is_whole else ["trial_id"]
    units, unit_of = trials.drop_duplicates(unit), trials.groupby(unit, dropna=False, sort=False).ngroup()
    order = np.arange(len(units))
    for index in units.groupby(fixed, dropna=False).indices.values():
        order[index] = generator.permutation(index)
    changed = units[[*columns]].take(order).take(unit_of.to_numpy()).set_axis(trials["trial_id"], axis=0)
    return rows.drop(columns=[*columns]).join(changed, on="trial_id")


def _retimed(rows: pd.DataFrame, column: str, generator: np.random.Generator) -> pd.DataFrame:
    values = rows[column].to_numpy().copy()
    for index in rows[rows[column].notna()].groupby("trial_id").indices.values():
        at = np.flatnonzero(rows[column].notna())[index]
        values[at] = values[generator.permutation(at)]
    return rows.assign(**{column: values})
