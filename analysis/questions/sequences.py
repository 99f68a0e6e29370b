"""Functions that all figures about sequences share: curves named by cell, settings, final values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from memsweep.analysis.core import figures, frames, panels
from memsweep.analysis.core.arrangement import DEFAULT, View
from memsweep.spec.options import CELLS

TASK, LENGTH, CELL, WIDTH = "data_task", "data_sequence_length", "model_cell", "model_width"
CURVE = [CELL, "variant"]
SETTING = [TASK, *CURVE, WIDTH, LENGTH]
"""Columns that make a setting: averages are over seeds alone."""
NETWORK = "network"
"""Column of the name of a cell and its variant."""
LABELS = {WIDTH: "width (H)", LENGTH: "sequence length (T)", "parameters": "parameters (P)"}

SOLVED_IN = 0.6
"""Share of seeds in which a length must be solved to count for a setting; our threshold."""

PRU = "PRU-style cell (reconstructed)"
PRU_NOTE = (
    f"Each cell pru_… is a {PRU}: of Choi (2018) only the abstract could be read, and nothing here repeats its numbers."
)
SHOWN_NOTE = (
    "By default at the largest width that all cells have, and the longest length that any of them solves in "
    f"{SOLVED_IN:.0%} of its seeds, else the longest."
)
MEAN_NOTE = "Mean over seeds; bars: 95 % bootstrap interval over seeds."

ACCURACY, SQUARED_ERROR = "accuracy", "squared error"


def settings(trials: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows with the family as `model_cell` of networks without cells, and with their `variant`.

    variant: other fields that differ between trials of one task, length, cell and width, as a text; "" if none differ.
    Fields that differ with the task or the length alone, such as a budget, are no variant.
    """
    named = trials.assign(model_cell=trials[CELL].where(trials[CELL] != "none", trials["model_family"]))
    shared = [TASK, LENGTH, CELL, WIDTH]
    fields = [name for name in frames.varying(named) if name not in (*shared, "model_family")]
    alike = named.groupby(shared, sort=False)
    fields = [name for name in fields if (alike[name].nunique(dropna=False) > 1).any()]
    return named.assign(variant=frames.labels(named, fields) if fields else "")


def measured(rows: pd.DataFrame, prefix: str = "validation_") -> pd.DataFrame:
    """Returns the rows with `measure`, its `value` a target, and `chance`, the value of an answer without inputs.

    measure: of numbers the mean squared error, of tokens the share that is right.  chance: of copy 1 / V, of recall 2 /
    V (any value), of adding 1/6 (always 1), of reconstruction 1 (always 0); NaN where the vocabulary is the task's
    default, 0.
    """
    count = rows[f"{prefix}target_count"]
    error = frames.share(rows[f"{prefix}squared_error_sum"], count)
    of_numbers = rows[TASK].isin(("adding", "reconstruction"))
    value = frames.share(rows[f"{prefix}target_correct_count"], count).where(~of_numbers, error)
    vocabulary = rows["data_vocabulary"].astype(float).replace(0, np.nan)
    chance = rows[TASK].map({"copy": 1, "recall": 2}).astype(float) / vocabulary
    chance = chance.fillna(rows[TASK].map({"adding": 1 / 6, "reconstruction": 1.0}).astype(float))
    return rows.assign(measure=np.where(of_numbers, SQUARED_ERROR, ACCURACY), value=value, chance=chance)


def shared(rows: pd.DataFrame, *fields: str) -> str:
    """Returns the values of fields that all rows have, or that each curve has its largest, as a text."""
    facts = []
    for name in fields:
        values = np.sort(rows[name].unique())
        facts.append(frames.label({name: values[0]}) if len(values) == 1 else f"each its largest {frames.short(name)}")
    return "at " + ", ".join(facts)


def at_one_width(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns rows of the largest width that every curve has; without such a width, of each curve's own largest."""
    by_curve = rows.groupby(CURVE, sort=False)[WIDTH]
    shared = set.intersection(*(set(widths) for _, widths in by_curve)) if len(rows) else set()
    return rows[rows[WIDTH] == max(shared)] if shared else rows[rows[WIDTH] == by_curve.transform("max")]


def solved(trials: pd.DataFrame) -> pd.Series[float]:
    """Returns 1 where the task was solved, 0 where a trial finished or diverged without, and NaN where this is unknown.

    Unknown: failed, pruned before, or not stored.
    """
    did = trials["solved_step"].notna() & trials["status"].isin(frames.SETTLED)
    did_not = trials["status"].isin(frames.UNPRUNED) & ~did
    return did.astype(float).where(did | did_not)


def shown(rows: pd.DataFrame, view: View = DEFAULT) -> pd.DataFrame:
    """Returns the rows (any number a trial) that a figure of curves shows: one width, and a length for each task.

    The width is that of `at_one_width`; the length is the longest that any cell solves in SOLVED_IN of its seeds, or
    the longest if no length is solved. Beyond it all cells lie at the floor.
    view: if it chooses any fields, all rows are shown.
    """
    if view.names:
        return rows
    chosen = []
    for _, of_task in settings(rows).groupby(TASK, sort=False):
        at_width = at_one_width(of_task)
        trials = at_width.drop_duplicates("trial_id")
        shares = trials.assign(solved=solved(trials)).groupby(SETTING)["solved"].mean()
        lengths = shares[shares >= SOLVED_IN].index.get_level_values(LENGTH)
        chosen.append(at_width[at_width[LENGTH] == (lengths.max() if len(lengths) else trials[LENGTH].max())])
    return rows.loc[pd.concat(chosen).index.sort_values()] if chosen else rows


def at_every(rows: pd.DataFrame, places: list[str]) -> pd.DataFrame:
    """Returns the rows, and a row without values for each place of its task and length that a trial lacks.

    rows: one a trial and place, or one a trial with NaN in `places`.  places: columns such as a position.
    """
    stored = rows.dropna(subset=places)
    wanted = stored[[TASK, LENGTH, *places]].drop_duplicates()
    trials = rows[[*SETTING, "seed", "trial_id"]].drop_duplicates()
    values = stored.drop(columns=[*SETTING, "seed"])
    return trials.merge(wanted, on=[TASK, LENGTH]).merge(values, on=["trial_id", *places], how="left")


def axes(summary: pd.DataFrame, x: str) -> list[str]:
    """Returns the columns that a view may choose in a figure along x: x, network, and the fields of SETTING."""
    return list(dict.fromkeys([x, NETWORK, WIDTH, LENGTH]))


def draw(
    chosen: pd.DataFrame,
    ax: Axes,
    summary: pd.DataFrame,
    x: str,
    axis: dict[str, Any],
    view: View = DEFAULT,
    fixed: str = "",
    has_lengths: bool = False,
    **plane: Any,
) -> Axes:
    """Draws rows of a summary against x, a curve a cell and its variant, which looks alike in all its figures.

    chosen: rows of one quantity and task.  axis: arguments of Axes.set.  fixed: what all rows have.
    has_lengths: whether each length has curves of its own.  plane: further fields of panels.Plane.
    """
    keys = [*CURVE, LENGTH] if has_lengths else CURVE
    of_tasks = summary[summary[TASK].isin(chosen[TASK])] if TASK in summary else summary  # readouts have one task
    names = sorted(set(of_tasks[keys].itertuples(index=False, name=None)), key=_order)
    of_rows = [name_of(*key) for key in chosen[keys].itertuples(index=False, name=None)]
    named = chosen.assign(**{NETWORK: pd.Categorical(of_rows, [name_of(*key) for key in names], ordered=True)})
    axis = {"xlabel": LABELS.get(x, x), **axis}
    note = "; ".join(filter(None, [fixed, pru(chosen)]))
    of_x = panels.Plane(axis["ylabel"], x, (NETWORK,), axis, is_scaled=False, fixed=note, **plane)
    return panels.draw(named, ax, axes(named, x), of_x, view)


def name_of(cell: str, variant: str = "", length: int | None = None) -> str:
    """Returns the name of a curve."""
    return ", ".join(filter(None, [cell, variant, f"T = {length}" if length else ""]))


def by_cell(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows in the order of cells, variants, widths and lengths."""
    order = rows[CELL].map(lambda cell: _order((cell, ""))[0])
    return rows.assign(order=order).sort_values(["order", *CURVE, WIDTH, LENGTH]).drop(columns="order")


def pru(chosen: pd.DataFrame) -> str:
    """Returns a note on PRU-style cells for a figure; "" where it has none."""
    return f"pru_…: {PRU}" if chosen[CELL].str.startswith("pru").any() else ""


def chance(ax: Axes, rows: pd.DataFrame, x: str) -> None:
    """Draws the largest value of the column `chance` of these rows as a line."""
    if rows["chance"].notna().any():
        ends = np.array([rows[x].min(), rows[x].max()])
        figures.reference(ax, ends, np.full(2, rows["chance"].max()), "chance (reads nothing)")


def measure_axis(measure: str) -> dict[str, Any]:
    """Returns the axis of validation accuracy, from 0 to 1, or of squared error, logarithmic."""
    scale = {"ylim": (0, 1.02)} if measure == ACCURACY else {"yscale": "log"}
    return {"ylabel": f"validation {measure}", **scale}


def _order(key: tuple[Any, ...]) -> tuple[Any, ...]:
    return (CELLS.index(key[0]) if key[0] in CELLS else len(CELLS), *key)
