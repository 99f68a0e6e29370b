"""Where in a sequence is a network right? Validation accuracy by the step of the answer."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from memsweep.analysis.core import figures, frames, statistics
from memsweep.analysis.core.arrangement import DEFAULT, View
from memsweep.analysis.questions import sequences
from memsweep.analysis.questions.sequences import CELL, LENGTH, SETTING, TASK, WIDTH

QUERY = frames.POSITIONS
TASKS = ("copy", "recall", "strings", "characters")
"""Tasks with targets at more than one step."""

select = sequences.shown


def summarize(positions: pd.DataFrame) -> pd.DataFrame:
    """Returns a row per setting and position: mean over seeds of the accuracy at that step.

    positions: rows of the table `positions` with the fields of their trials (`frames.read`), filtered by `select`; a
    trial without positions is one row, and counts as missing at every position, as does a trial that failed or
    diverged.
    Returns also low, high (bootstrap over seeds, 95 %), seeds, missing, chance.
    """
    rows = sequences.settings(positions)
    rows = rows[rows[TASK].isin(TASKS)]
    rows = sequences.measured(rows.assign(squared_error_sum=np.nan), prefix="")
    whole = sequences.at_every(rows.assign(value=rows["value"].where(frames.usable(rows))), ["position"])
    if whole.empty:
        return pd.DataFrame(columns=list(_COLUMNS))
    estimated = statistics.over_seeds(whole, [*SETTING, "position"], "value")
    estimated = estimated.merge(rows.groupby(SETTING)["chance"].max().reset_index(), on=SETTING)
    answered = estimated[estimated.groupby([TASK, LENGTH, "position"])["seeds"].transform("sum") > 0]
    return sequences.by_cell(answered)[list(_COLUMNS)]


def draw(summary: pd.DataFrame, ax: Axes, task: str, view: View = DEFAULT) -> Axes:
    """Draws accuracy by position, a curve a cell."""
    chosen = frames.having(summary, {TASK: task})
    if chosen["estimate"].isna().all():
        return figures.empty(ax, f"no finished trial of task {task} has accuracies by position")
    axis = {"xlabel": "step of the answer in the sequence", **sequences.measure_axis(sequences.ACCURACY)}
    fixed = "" if view.names else sequences.shared(chosen, WIDTH, LENGTH)
    return sequences.draw(chosen, ax, summary, "position", axis, view, fixed, lines=sequences.chance)


_COLUMNS = (TASK, CELL, "variant", WIDTH, LENGTH, "position", "estimate", "low", "high", "seeds", "missing", "chance")


def _figures() -> Iterator[figures.Figure]:
    for task in TASKS:
        yield figures.Figure(
            task,
            f"Recall by position: {task}",
            partial(draw, task=task),
            "At the end of training, which for a trial that ends once solved is near the threshold. "
            f"{sequences.SHOWN_NOTE} {sequences.MEAN_NOTE} {sequences.PRU_NOTE}",
            rows=partial(frames.having, values={TASK: task}),
            only={TASK: task},
            axes=partial(sequences.axes, x="position"),
        )


FIGURES = tuple(_figures())
