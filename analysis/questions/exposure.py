"""How exposed are strings that a language model was trained on, by repeats, width and length? Carlini et al. 2019.

Exposure is by rank among random candidates that were never trained on: log2 R - log2 rank, at most log2 R.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from memsweep.analysis.core import figures, frames, series

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


def draw(summary: pd.DataFrame, ax: Axes, fixed: str) -> Axes:
    """Draws exposure against repeats, a curve a network, at the middle value of a fixed field, with its limits."""
    chosen = summary[summary["estimate"].notna()]
    if chosen.empty:
        return figures.empty(ax, "no finished trial has the probe exposure")
    values = np.sort(chosen[fixed].unique())
    chosen = chosen[chosen[fixed] == values[len(values) // 2]]
    names = [name for name in frames.varying(chosen) if name != fixed] or [WIDTH]
    curves = list(chosen.groupby(names, sort=True))
    for (of_curve, points), look in zip(curves, figures.looks(len(curves), ordered=True), strict=True):
        label = frames.label(dict(zip(names, of_curve, strict=True)), chosen)
        figures.curve(ax, points, REPEATS, label=label, **look)
    repeats = np.sort(chosen[REPEATS].unique().astype(float))
    figures.reference(ax, repeats, np.full(len(repeats), float(summary["most"].max())), "most: likelier than all", ":")
    figures.reference(ax, repeats, np.full(len(repeats), CHANCE), "chance")
    ax.set(xscale="log", xlabel="repeats in the training set", ylabel=EXPOSURE, ylim=(0, None))
    figures.grid_ticks(ax.xaxis, repeats)
    figures.legend(ax, frames.label({fixed: values[len(values) // 2]}))
    return ax


_NOTE = (
    "Exposure after Carlini et al. (2019), by rank: log2 of the number of candidates, unseen random strings and the "
    "string itself, less log2 of its rank by likelihood; a string that is likelier than all candidates has the most. "
    "Chance: 1 / ln 2. Mean over the strings with as many repeats, then over seeds; bars: 95 % bootstrap interval over "
    "seeds."
)

FIGURES = tuple(
    figures.Figure(f"by-{name}", f"Exposure by repeats and {name}", partial(draw, fixed=fixed), _NOTE)
    for name, fixed in (("width", LENGTH), ("length", WIDTH))
)
