"""Functions that all figures about sequences share: curves named by cell, settings, final values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from memsweep.analysis.core import figures, frames
from memsweep.spec.options import CELLS

TASK, LENGTH, CELL, WIDTH = "data_task", "data_sequence_length", "model_cell", "model_width"
CURVE = [CELL, "variant"]
SETTING = [TASK, *CURVE, WIDTH, LENGTH]
"""Columns that make a setting: averages are over seeds alone."""

SOLVED_IN = 0.6
"""Share of seeds in which a length must be solved to count for a setting; our threshold."""

PRU = "PRU-style cell (reconstructed)"
PRU_NOTE = (
    f"Each cell pru_… is a {PRU}: of Choi (2018) only the abstract could be read, and nothing here repeats its numbers."
)
SHOWN_NOTE = (
    "At the largest width that all cells have, and the longest length that any of them solves in "
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


def shown(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows (any number a trial) that a figure of curves shows: one width, and a length for each task.

    The width is that of `at_one_width`; the length is the longest that any cell solves in SOLVED_IN of its seeds, or
    the longest if no length is solved. Beyond it all cells lie at the floor.
    """
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


def curves(chosen: pd.DataFrame, summary: pd.DataFrame) -> list[tuple[str, pd.DataFrame, dict[str, Any]]]:
    """Returns name, points and look of each curve of `chosen`, in the order of cells; a summary fixes the looks."""
    names = sorted(set(summary[CURVE].itertuples(index=False, name=None)), key=_order)
    looks = dict(zip(names, figures.looks(len(names), ordered=False), strict=True))
    groups = chosen.groupby(CURVE, sort=False)
    by_name = {key: points for key, points in groups}
    return [(name_of(*key), by_name[key], looks[key]) for key in names if key in by_name]


def name_of(cell: str, variant: str = "") -> str:
    """Returns the name of a curve."""
    return f"{cell}, {variant}" if variant else cell


def by_cell(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows in the order of cells, variants, widths and lengths."""
    order = rows[CELL].map(lambda cell: _order((cell, ""))[0])
    return rows.assign(order=order).sort_values(["order", *CURVE, WIDTH, LENGTH]).drop(columns="order")


def title(chosen: pd.DataFrame, *fields: str) -> str:
    """Returns the title of a legend of cells: values of the fixed fields, and a note on PRU-style cells."""
    facts = []
    for name in fields:
        values = np.sort(chosen[name].unique())
        facts.append(frames.label({name: values[0]}) if len(values) == 1 else f"each its largest {frames.short(name)}")
    return "\n".join(filter(None, [", ".join(facts), pru(chosen)]))


def pru(chosen: pd.DataFrame) -> str:
    """Returns a note on PRU-style cells for a figure; "" where it has none."""
    return f"pru_…: {PRU}" if chosen[CELL].str.startswith("pru").any() else ""


def size_axis(ax: Axes, against: str, sizes: np.ndarray) -> None:
    """Sets up the axis of width or parameters, logarithmic.  sizes: values that are drawn."""
    ax.set(xscale="log", xlabel={WIDTH: "width (H)", "parameters": "parameters (P)"}[against])
    if against == WIDTH:
        figures.grid_ticks(ax.xaxis, sizes)
    else:
        figures.plain_ticks(ax.xaxis)


def measure_axis(ax: Axes, measure: str) -> None:
    """Sets up the axis of validation accuracy, from 0 to 1, or of squared error, logarithmic."""
    ax.set_ylabel(f"validation {measure}")
    if measure == ACCURACY:
        ax.set_ylim(0, 1.02)
    else:
        ax.set_yscale("log")
        figures.plain_ticks(ax.yaxis)


def _order(key: tuple[str, str]) -> tuple[int, str, str]:
    cell, variant = key
    return (CELLS.index(cell) if cell in CELLS else len(CELLS), cell, variant)
