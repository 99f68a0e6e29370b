"""How fast does each cell learn a sequence task? Validation data over steps, at one width and length of each task."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from memsweep.analysis.core import figures, frames, series, statistics
from memsweep.analysis.core.arrangement import DEFAULT, View
from memsweep.analysis.questions import learning_curves, sequences
from memsweep.analysis.questions.sequences import CELL, LENGTH, SETTING, TASK, WIDTH
from memsweep.spec.options import TARGET_TASKS

QUERY = frames.CURVES

select = sequences.shown


def summarize(steps: pd.DataFrame) -> pd.DataFrame:
    """Returns a row per setting and step: mean over seeds of validation accuracy or squared error.

    steps: rows of the table `steps` with the fields of their trials (`frames.read`), filtered by `select`; a trial
    without steps is one row.
    A seed's value at a step is its last measurement until then. A trial that finished before its budget, since it was
    solved or fitted, keeps its last value (`ended` counts such seeds). A trial that ended otherwise has no value after
    its end; a trial that failed or diverged has no values at all.
    Returns also measure, low, high (bootstrap over seeds, 95 %), seeds, missing.
    """
    rows = sequences.measured(sequences.settings(steps))
    pieces = []
    for _, task in rows.groupby(TASK, sort=False):
        if task["step"].notna().any():
            times = learning_curves.spaced(np.sort(task["step"].dropna().unique()))
            curves = [
                series.at_times(trial, "step", times, ["value"]).assign(
                    **{name: trial[name].iloc[0] for name in SETTING}
                )
                for _, trial in task.groupby([*SETTING, "trial_id"], sort=False)
            ]
            shown = pd.concat(curves, ignore_index=True)
            by = [*SETTING, "step"]
            estimated = statistics.over_seeds(shown, by, "value").assign(measure=task["measure"].iloc[0])
            pieces.append(estimated.merge(shown.groupby(by)["ended"].sum().reset_index(), on=by))
    if not pieces:
        return pd.DataFrame(columns=list(_COLUMNS))
    return sequences.by_cell(pd.concat(pieces, ignore_index=True))[list(_COLUMNS)]


def draw(summary: pd.DataFrame, ax: Axes, task: str, view: View = DEFAULT) -> Axes:
    """Draws a task's validation accuracy or squared error over steps, a curve a cell."""
    chosen = frames.having(summary, {TASK: task})
    if chosen["estimate"].isna().all():
        return figures.empty(ax, f"no measurement of task {task}")
    axis = {"xscale": "log", "xlabel": "steps", **sequences.measure_axis(chosen["measure"].iloc[0])}
    fixed = "" if view.names else sequences.shared(chosen, WIDTH, LENGTH)
    return sequences.draw(chosen, ax, summary, "step", axis, view, fixed)


_COLUMNS = (TASK, CELL, "variant", WIDTH, LENGTH, "measure", "step", "estimate", "low", "high", "seeds", "missing",
            "ended")  # fmt: skip


def _figures() -> Iterator[figures.Figure]:
    for task in TARGET_TASKS:
        yield figures.Figure(
            task,
            f"Convergence: {task}",
            partial(draw, task=task),
            "On validation data. A trial that ended because it solved its task keeps its last value, so that the end "
            "of a curve lies near the threshold; the table counts such seeds (ended). "
            f"{sequences.SHOWN_NOTE} {sequences.MEAN_NOTE} {sequences.PRU_NOTE}",
            rows=partial(frames.having, values={TASK: task}),
            only={TASK: task},
            axes=partial(sequences.axes, x="step"),
        )


FIGURES = tuple(_figures())
