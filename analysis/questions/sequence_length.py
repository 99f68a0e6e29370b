"""How long a sequence does each cell master? Share of seeds that solve a task, in how many steps, by length and width.

Training over time is in `convergence`, positions within a sequence in `recall_positions` and `readouts`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes

from memsweep.analysis.core import figures, frames, statistics
from memsweep.analysis.core.arrangement import DEFAULT, View
from memsweep.analysis.questions import sequences
from memsweep.analysis.questions.sequences import CELL, CURVE, LENGTH, SETTING, SOLVED_IN, TASK, WIDTH
from memsweep.spec.numerals import texts
from memsweep.spec.options import SOLVABLE_TASKS

QUERY = frames.TRIALS
ALSO = ("convergence", "recall_positions", "readouts")

SHARE, STEPS, REACH, FINAL = "share of seeds that solve", "steps to solve", "largest length solved", "value at the end"


def summarize(trials: pd.DataFrame) -> pd.DataFrame:
    """Returns a row per quantity and setting: task, cell, variant (`sequences.settings`), width and length.

    REACH has no length. A trial has solved its task from `solved_step` on. A trial that finished or diverged without
    solving has not solved it within its budget. For any other trial (failed, pruned, not stored) this is unknown, and
    it counts as missing.
    share of seeds that solve: with Wilson's interval over seeds.
    steps to solve: median over seeds, an unsolved trial counting as its budget or more: `at_least` is 1 where this
    makes the median a lower bound; interval of the sign test, infinite above where it ends in an unsolved seed.
    largest length solved (T*): the largest length of the grid that SOLVED_IN of the seeds with a result solve; 0 and
    `at_most` 1 if no length is solved, `at_least` 1 if no longer length has a result; a threshold of a grid, without
    an interval.
    value at the end: mean over seeds of accuracy or squared error on validation targets (`measure`), with its bootstrap
    interval over seeds; a diverged trial has no value.
    Intervals are at 95 %. Returns also parameters, budget, chance, seeds, missing, censored (seeds that did not solve).
    """
    if trials.empty:
        return pd.DataFrame(columns=list(_COLUMNS))
    rows = _fates(sequences.measured(sequences.settings(trials)))
    solvable = rows[rows[TASK].isin(SOLVABLE_TASKS)]
    pieces = [statistics.over_seeds(rows, SETTING, "value").assign(quantity=FINAL)]
    if len(solvable):
        shares = statistics.share_over_seeds(solvable, SETTING, "solved")
        steps = statistics.median_over_seeds(solvable, SETTING, "steps", "unsolved")
        pieces += [shares.assign(quantity=SHARE), steps.assign(quantity=STEPS)]
    summary = pd.concat(pieces, ignore_index=True).merge(_facts(rows, SETTING), on=SETTING)
    if len(solvable):
        reach = statistics.by_group(shares, _NETWORK, _reach).merge(_facts(rows, _NETWORK), on=_NETWORK)
        summary = pd.concat([summary, reach.assign(quantity=REACH)], ignore_index=True)
    return sequences.by_cell(summary).reindex(columns=[*_COLUMNS]).reset_index(drop=True)


def draw_solved(summary: pd.DataFrame, ax: Axes, task: str) -> Axes:
    """Draws the solved region: a square a length and width of a cell, darker where more seeds solved."""
    chosen = sequences.by_cell(frames.having(summary, {"quantity": SHARE, TASK: task}))
    if not chosen["seeds"].any():
        return figures.empty(ax, f"no finished trial of task {task}")
    lengths = np.sort(chosen[LENGTH].unique())
    keys = list(chosen[[*CURVE, WIDTH]].drop_duplicates().itertuples(index=False, name=None))
    edges, middles = _stacked([key[:2] for key in keys])
    at = dict(zip(keys, middles, strict=True))
    colors = np.full((len(edges) - 1, len(lengths)), np.nan)
    for square in chosen.to_dict("records"):
        x, y = int(np.searchsorted(lengths, square[LENGTH])), at[square[CELL], square["variant"], square[WIDTH]]
        colors[np.searchsorted(edges, y) - 1, x] = square["estimate"]
        ax.text(x, y, _count_text(square), ha="center", va="center", fontsize=6, color=_ink(square["estimate"]))
    ax.pcolormesh(np.arange(len(lengths) + 1) - 0.5, edges, colors, cmap=_SHADES, vmin=0, vmax=1, label="share solved")
    ax.figure.set_figheight(max(2.9, 0.16 * len(middles) + 0.9))  # type: ignore[union-attr]  # no subfigure
    figures.grid_ticks(ax.xaxis, np.arange(len(lengths)), texts(lengths))
    names = [f"{sequences.name_of(cell, variant)}  {width:g}" for cell, variant, width in keys]
    figures.grid_ticks(ax.yaxis, middles, names)
    ax.grid(visible=False)
    ax.tick_params(length=0)
    note = sequences.pru(chosen)
    ax.set(xlabel="\n".join(filter(None, ["sequence length (T)", note])), ylabel="cell, width (H)")
    return ax


def draw_steps(summary: pd.DataFrame, ax: Axes, task: str, view: View = DEFAULT) -> Axes:
    """Draws median steps to solve against the length, a curve a cell and a panel a width; lower bounds are marked."""
    chosen = frames.having(summary, {"quantity": STEPS, TASK: task})
    if chosen["estimate"].isna().all():
        return figures.empty(ax, f"no finished trial of task {task}")
    chosen = chosen.assign(high=chosen[["high", "budget"]].min(axis=1))
    axis = {**_LOG, "yscale": "log", "ylabel": "steps to solve (median)"}
    marks = {"at_least": ("^", "at least (half unsolved)")}
    return sequences.draw(chosen, ax, summary, LENGTH, axis, view, apart=0.15, bounds=marks)


def draw_reach(summary: pd.DataFrame, ax: Axes, task: str, view: View = DEFAULT) -> Axes:
    """Draws the largest length solved (T*) against the width, a curve a cell."""
    chosen = frames.having(summary, {"quantity": REACH, TASK: task})
    if chosen["estimate"].isna().all():
        return figures.empty(ax, f"no finished trial of task {task}")
    lengths = np.sort(frames.having(summary, {"quantity": SHARE, TASK: task})[LENGTH].unique())
    heights = np.arange(len(lengths) + 1.0)  # 0 for no length, then a step a length of the grid
    height = chosen["estimate"].map(dict(zip([0, *lengths], heights, strict=True)))
    chosen = chosen.assign(estimate=height, low=np.nan, high=np.nan)
    axis = {**_LOG, "ylabel": "largest length solved (T*)", "ylim": (-0.5, len(lengths) + 0.5)}
    marks = {"at_least": ("^", "at least: end of grid")}
    ax = sequences.draw(chosen, ax, summary, WIDTH, axis, view, apart=0.15, bounds=marks)
    if not view.y:
        figures.grid_ticks(ax.yaxis, heights, ["none", *texts(lengths)])
    return ax


def draw_final(summary: pd.DataFrame, ax: Axes, task: str, against: str = WIDTH, view: View = DEFAULT) -> Axes:
    """Draws the final value against width or parameters, a curve a cell; at the longest length that is solved, unless a
    view chooses fields."""
    chosen = frames.having(summary, {"quantity": FINAL, TASK: task})
    length = longest_solved(summary, task)
    chosen = chosen[(chosen[LENGTH] == length) | bool(view.names)]
    chosen = chosen[chosen[against] > 0]
    if chosen["estimate"].isna().all():
        return figures.empty(ax, f"no finished trial of task {task}")
    axis = {**_LOG, **sequences.measure_axis(chosen["measure"].iloc[0])}
    fixed = "" if view.names else sequences.shared(chosen, LENGTH)
    return sequences.draw(chosen, ax, summary, against, axis, view, fixed, lines=sequences.chance)


def longest_solved(summary: pd.DataFrame, task: str) -> float:
    """Returns the largest length that any setting of a task solves (T*), or the longest if no length is solved.

    Beyond T* all settings lie at the floor.
    """
    reach = frames.having(summary, {"quantity": REACH, TASK: task})["estimate"].max()
    return float(reach) if reach > 0 else float(frames.having(summary, {TASK: task})[LENGTH].max())


def _fates(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows with the outcome of each trial.

    solved: 1, 0 or NaN.  steps: to solve, at least where unsolved.  value: NaN where the trial has no result.
    """
    solved = sequences.solved(rows)
    budget = frames.budget(rows)
    return rows.assign(
        solved=solved,
        unsolved=solved == 0,
        steps=rows["solved_step"].astype(float).where(solved == 1, budget).where(solved.notna()),
        budget=budget,
        parameters=rows["parameter_count"].astype(float),
        value=rows["value"].where(frames.usable(rows)),
    )


def _facts(rows: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    names = ["parameters", "budget", "chance", "measure"]
    return rows.groupby(by, sort=False)[names].max().reset_index()


def _reach(lengths: pd.DataFrame) -> dict[str, Any]:
    """Returns T* of one network, from its share of solved seeds at each length."""
    lengths_with_result = lengths.dropna(subset="estimate")
    largest = lengths_with_result.loc[lengths_with_result["estimate"] >= SOLVED_IN, LENGTH].max()
    none = bool(np.isnan(largest))
    return {
        "estimate": np.nan if lengths_with_result.empty else 0.0 if none else float(largest),
        "seeds": int(lengths["seeds"].max()),
        "missing": int(lengths["missing"].max()),
        "at_least": int(not none and not (lengths_with_result[LENGTH] > largest).any()),
        "at_most": int(none and len(lengths_with_result) > 0),
    }


def _stacked(keys: list[tuple[Any, ...]]) -> tuple[np.ndarray, np.ndarray]:
    """Returns edges of rows of height 1, from the top, with gaps between different keys; and middles of the rows."""
    edges, middles = [0.0], []
    for before, key in zip([keys[0], *keys], keys, strict=False):
        if key != before:
            edges.append(edges[-1] - 0.25)
        middles.append(edges[-1] - 0.5)
        edges.append(edges[-1] - 1)
    return np.array(edges[::-1]), np.array(middles)


def _count_text(square: dict[Any, Any]) -> str:
    """Returns 3/5; with seeds without a result, 3/4 +1?; with no other seeds, ?"""
    unknown = int(square["missing"])
    if not square["seeds"]:
        return "?"
    return f"{round(square['estimate'] * square['seeds'])}/{square['seeds']}" + (f" +{unknown}?" if unknown else "")


def _ink(share: float) -> str:
    return "white" if share > 0.6 else "black"


_COLUMNS = (
    "quantity", TASK, CELL, "variant", WIDTH, LENGTH, "measure", "parameters", "budget", "chance", "estimate", "low",
    "high", "seeds", "missing", "censored", "at_least", "at_most",
)  # fmt: skip

_NETWORK = [name for name in SETTING if name != LENGTH]
_SHADES = colormaps["Blues"]
_LOG = {"xscale": "log"}


def _figures(task: str) -> Iterator[figures.Figure]:
    of_task = {TASK: task}
    yield figures.Figure(
        f"{task}-solved",
        f"Solved region: {task}",
        partial(draw_solved, task=task),
        "Seeds that solved the task within their budget, of those with a result; the darker, the more; +1?: one seed "
        "has no result (failed or not stored); a white square with ?: no seed has. A diverged trial counts as "
        "unsolved. In the table: Wilson's 95 % interval over seeds. The task's threshold, on validation data, is ours. "
        f"{sequences.PRU_NOTE}",
        rows=frames.of_quantity(SHARE, **of_task),
        only=of_task,
        fixed="counts of seeds are written into squares of length and width",
    )
    yield figures.Figure(
        f"{task}-steps",
        f"Steps to solve: {task}",
        partial(draw_steps, task=task),
        "Median over seeds; a seed that did not solve its task within its budget counts as the budget or more; a "
        "triangle: the median lies there or above. Bars: sign-test interval over seeds, 95 % or the range of all seeds "
        "where they are fewer than 6; cut off at the budget. Points are set a little "
        f"apart. {sequences.PRU_NOTE}",
        rows=frames.of_quantity(STEPS, **of_task),
        only=of_task,
        axes=partial(sequences.axes, x=LENGTH),
    )
    yield figures.Figure(
        f"{task}-reach",
        f"Largest length solved, by width: {task}",
        partial(draw_reach, task=task),
        f"T*: the largest length of the grid that {SOLVED_IN:.0%} or more of the seeds solve; a triangle: no longer "
        "length has a result, so that T* may lie above; none: not even the shortest is solved. A threshold of a grid "
        "has no interval; the solved region has those of the shares. Points are set a little apart. "
        f"{sequences.PRU_NOTE}",
        rows=frames.of_quantity(REACH, **of_task),
        only=of_task,
        axes=partial(sequences.axes, x=WIDTH),
    )
    for against, title in ((WIDTH, "width"), ("parameters", "parameters")):
        yield figures.Figure(
            f"{task}-by-{title}",
            f"At the end, by {title}: {task}",
            partial(draw_final, task=task, against=against),
            f"Cells at equal {title}, on validation data at the end of training. A trial that ends once solved stops "
            "near the threshold, so solved settings do not differ here. At the longest length that any setting "
            f"solves in {SOLVED_IN:.0%} of its seeds, else at the longest; others are in the table. Mean over seeds; "
            f"bars: 95 % bootstrap interval over seeds; a diverged trial counts as missing. {sequences.PRU_NOTE}",
            rows=frames.of_quantity(FINAL, **of_task),
            only=of_task,
            axes=partial(sequences.axes, x=against),
        )


FIGURES = tuple(figure for task in SOLVABLE_TASKS for figure in _figures(task))
