"""How exposed are strings that a language model was trained on, by repeats, width and length? Carlini et al. 2019.

Exposure is by rank among random candidates that were never trained on: log2 R - log2 rank, at most log2 R.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from memsweep.analysis.core import figures, frames, series
from memsweep.analysis.core.arrangement import DEFAULT, View

QUERY = frames.beside("exposure", "b.step, b.example", "exposure")
REPEATS, WIDTH, LENGTH = "repeat_count", "model_width", "data_sequence_length"
EXPOSURE = "exposure (bits)"
CHANCE = 1 / np.log(2)
"""Mean exposure of a string that was not trained on, where ranks are uniform and candidates many."""


def exposures(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the mean exposure by trial, step and repeats, over the canaries with as many repeats.

    rows: of QUERY.  Exposure is log2(R + 1) - log2(1 + candidates that are at least as likely), for R candidates and
    the canary. Returns the fields of the rows, step, repeat_count, exposure (bits), most (bits: log2(R + 1)); a trial
    without measurements is one row of NaN.
    """
    most = np.log2(rows["candidate_count"].astype(float) + 1)
    scored = rows.assign(exposure=most - np.log2(rows["likelier_count"].astype(float) + 1), most=most)
    fields = [name for name in rows if name not in ("example", "loss_nats", "likelier_count", "candidate_count")]
    means = scored.groupby(["trial_id", "step", REPEATS], dropna=False)[["exposure", "most"]].mean().reset_index()
    firsts = scored[fields].drop_duplicates(["trial_id", "step", REPEATS])
    return firsts.merge(means, on=["trial_id", "step", REPEATS])


def summarize(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the exposure at the end by network and repeats: mean over seeds with its bootstrap interval, at 95 %.

    Returns quantity, the varying fields, repeat_count, estimate, low, high, seeds, missing, most.
    """
    scored = exposures(rows)
    last = scored[scored["step"].isna() | (scored["step"] == scored.groupby("trial_id")["step"].transform("max"))]
    network = list(dict.fromkeys([WIDTH, LENGTH, *frames.varying(rows)]))
    if last[REPEATS].isna().all():
        return pd.DataFrame(
            columns=["quantity", *network, REPEATS, "estimate", "low", "high", "seeds", "missing", "most"]
        )
    placed = series.at_every(last, network, [REPEATS])
    summary = series.summarize(placed, {EXPOSURE: placed["exposure"]}, [*network, REPEATS])
    return summary.assign(most=placed["most"].max())


def draw(summary: pd.DataFrame, ax: Axes, curves: str, view: View = DEFAULT) -> Axes:
    """Draws exposure against repeats, a curve for each value of a column, with its limits."""
    what, axis = (EXPOSURE, REPEATS, curves), {"xlabel": "repeats in the training set", "xscale": "log"}
    return series.draw(summary, ax, what, {}, {**axis, "ylim": (0, None)}, view, lines=_limits)


def _limits(ax: Axes, rows: pd.DataFrame, x: str) -> None:
    """Draws the most exposure and that of chance."""
    ends = np.array([rows[x].min(), rows[x].max()], float)
    figures.reference(ax, ends, np.full(2, float(rows["most"].max())), "most: likelier than all", ":")
    figures.reference(ax, ends, np.full(2, CHANCE), "chance")


_NOTE = (
    "Exposure after Carlini et al. (2019), by rank: log2 of the number of candidates, unseen random strings and the "
    "string itself, less log2 of its rank by likelihood; a string that is likelier than all candidates has the most. "
    "Chance: 1 / ln 2. Mean over the strings with as many repeats, then over seeds; bars: 95 % bootstrap interval over "
    "seeds."
)

FIGURES = tuple(
    figures.Figure(
        f"by-{frames.short(column).rpartition(' ')[2]}",
        f"Exposure by repeats and {frames.short(column)}",
        partial(draw, curves=column),
        _NOTE,
        axes=partial(series.keys, what=(EXPOSURE, REPEATS, column), selection={}),
    )
    for column in (WIDTH, LENGTH)
)
