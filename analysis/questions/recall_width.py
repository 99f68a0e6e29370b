"""Which width recalls how many pairs of key and value, by cells with a state of fixed size and by attention?

After Arora et al. (2023), who found that a state of fixed size must grow with what is recalled, and attention not.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from memsweep.analysis.core import figures, frames, statistics
from memsweep.analysis.questions import sequences
from memsweep.analysis.questions.sequences import CELL, WIDTH

QUERY = frames.TRIALS
PAIRS, RATE = "data_items", "optimizer_learning_rate"
ACCURACY, LEAST = "share of queries recalled", "least width that recalls all (99 %)"
SOLVED = 0.99
"""Share of queries that counts as all of them: the threshold of the task, which Arora et al. (2023) have too."""


def recalled(trials: pd.DataFrame) -> pd.DataFrame:
    """Returns trials of recall with the cell or family as `model_cell`, and the share of queries that is right."""
    rows = trials[trials["data_task"] == "recall"]
    share = frames.share(rows["validation_target_correct_count"], rows["validation_target_count"])
    cell = rows[CELL].where(rows[CELL] != "none", rows["model_family"])
    return rows.assign(**{CELL: cell, ACCURACY: share.where(frames.usable(rows))})


def best(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the largest share of queries over learning rates, by cell, pairs, width and seed.

    rows: of `recalled`.
    """
    return rows.groupby([CELL, PAIRS, WIDTH, "seed"], as_index=False)[ACCURACY].max()


def least_widths(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the smallest width that recalls SOLVED of all queries at any rate, by cell, pairs and seed.

    rows: of `recalled`.  width: where no width does, the next one of the grid: twice the largest (at_least is 1), and
    the truth lies there or beyond; NaN where a narrower width has no result.  at_most: 1 where the smallest width does,
    so that a smaller one might, too.
    """
    return statistics.by_group(best(rows), [CELL, PAIRS, "seed"], _least)


def _least(of: pd.DataFrame) -> dict[str, Any]:
    ordered = of.sort_values(WIDTH)
    shares, widths = ordered[ACCURACY].to_numpy(float), ordered[WIDTH].to_numpy(float)
    does = shares >= SOLVED
    place = int(does.argmax()) if does.any() else len(does)
    if np.isnan(shares[:place]).any():
        return {"width": np.nan, "at_least": 0, "at_most": 0}
    width = widths[place] if place < len(widths) else 2 * widths[-1]
    return {"width": width, "at_least": int(not does.any()), "at_most": int(place == 0)}


def summarize(trials: pd.DataFrame) -> pd.DataFrame:
    """Returns a row per quantity, cell, pairs, and width (of shares alone), over seeds, at 95 %.

    Share of queries recalled: mean over seeds of the best over learning rates, with its bootstrap interval. Least
    width: median over seeds with the interval of the sign test; a seed that no width solves lies beyond the grid. Other
    fields that vary, besides cell, width and pairs, are ways to train, of which the best counts.
    Returns quantity, model_cell, data_items, model_width, estimate, low, high, seeds, missing, censored, at_least,
    at_most.
    """
    rows = recalled(trials)
    if rows.empty:
        return pd.DataFrame(columns=list(_COLUMNS))
    shares = statistics.over_seeds(best(rows), [CELL, PAIRS, WIDTH], ACCURACY).assign(quantity=ACCURACY)
    widths = least_widths(rows)
    medians = statistics.median_over_seeds(widths, [CELL, PAIRS], "width", "at_least").assign(quantity=LEAST)
    at_most = widths.groupby([CELL, PAIRS], as_index=False)["at_most"].sum()
    return pd.concat([shares, medians.merge(at_most, on=[CELL, PAIRS])], ignore_index=True)[[*_COLUMNS]]


def draw_shares(summary: pd.DataFrame, ax: Axes, pairs: str = "most") -> Axes:
    """Draws the share of queries recalled against width, a curve a cell, at the most or the fewest pairs."""
    chosen = summary[(summary["quantity"] == ACCURACY) & summary["estimate"].notna()]
    if chosen.empty:
        return figures.empty(ax, "no finished trial of recall has an answer")
    count = chosen[PAIRS].max() if pairs == "most" else chosen[PAIRS].min()
    chosen = chosen[chosen[PAIRS] == count]
    names = _ordered(summary)
    for name, look in zip(names, figures.looks(len(names), ordered=False), strict=True):
        if len(points := chosen[chosen[CELL] == name]):
            figures.curve(ax, points, WIDTH, label=name, **look)
    widths = np.sort(chosen[WIDTH].unique().astype(float))
    figures.reference(ax, widths, np.full(len(widths), SOLVED), f"{SOLVED}: counts as all", ":")
    ax.set(ylim=(0, 1.02), ylabel=ACCURACY)
    sequences.size_axis(ax, WIDTH, widths)
    figures.legend(ax, f"{int(count)} pairs")
    return ax


def draw_widths(summary: pd.DataFrame, ax: Axes) -> Axes:
    """Draws the least width against pairs, a curve a cell; a triangle lies beyond the grid in half of the seeds."""
    chosen = summary[(summary["quantity"] == LEAST) & summary["estimate"].notna()]
    if chosen.empty:
        return figures.empty(ax, "no finished trial of recall has an answer")
    names = _ordered(summary)
    top = 1.3 * float(chosen["estimate"].max())
    for name, look in zip(names, figures.looks(len(names), ordered=False), strict=True):
        points = chosen[chosen[CELL] == name]
        if len(points):
            figures.curve(ax, points.assign(high=points["high"].clip(upper=top)), PAIRS, label=name, **look)
            beyond = points[points["at_least"] > 0]
            if len(beyond):
                figures.hollow(ax, beyond[PAIRS], beyond["estimate"], "beyond the grid", "^", color=look["color"])
    ax.set(xscale="log", yscale="log", xlabel="pairs to recall (D)", ylabel="least width that recalls all (H)")
    figures.grid_ticks(ax.xaxis, np.sort(chosen[PAIRS].unique().astype(float)))
    figures.grid_ticks(ax.yaxis, np.unique(summary[WIDTH].dropna().astype(float)))
    figures.legend(ax)
    return ax


def _ordered(summary: pd.DataFrame) -> list[str]:
    return [str(name) for name in sequences.by_cell(_named(summary))[CELL].unique()]


def _named(summary: pd.DataFrame) -> pd.DataFrame:
    names = pd.DataFrame({CELL: sorted(set(summary[CELL]))})
    return names.assign(variant="", **{WIDTH: 0, sequences.LENGTH: 0})


_COLUMNS = (
    *("quantity", CELL, PAIRS, WIDTH, "estimate", "low", "high", "seeds", "missing", "censored", "at_least", "at_most"),
)
_NOTE = (
    "Multi-query associative recall after Arora et al. (2023): pairs of key and value, then each key again, whose "
    "value is the answer; validation data; the best of the learning rates for each seed."
)
_FIGURE = partial(figures.Figure, only={"data_task": "recall"})

FIGURES = (
    _FIGURE(
        "widths",
        "Least width that recalls all pairs",
        draw_widths,
        f"The smallest width with 99 % of queries right. {_NOTE} Median over seeds; bars: 95 % interval of the sign "
        "test. A triangle: in half of the seeds or more no width of the grid does.",
        rows=figures.of_quantity(LEAST),
    ),
    *(
        _FIGURE(
            f"shares-{name}",
            f"Queries recalled, by width, {name} pairs",
            partial(draw_shares, pairs=name),
            f"{_NOTE} Mean over seeds; bars: 95 % bootstrap interval over seeds.",
            rows=figures.of_quantity(ACCURACY),
        )
        for name in ("most", "fewest")
    ),
)
