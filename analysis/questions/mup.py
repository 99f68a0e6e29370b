"""At which learning rate is the training loss smallest, by width, in the standard parametrization and in muP?

The best rate of a seed is the vertex of a parabola through its smallest loss and that of the two neighbouring rates, in
logarithms of both. Where the smallest loss stands at an end of the rates, the best rate may lie beyond: it is counted.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from memsweep.analysis.core import figures, frames, series, statistics
from memsweep.analysis.core.arrangement import DEFAULT, View
from memsweep.spec.schema import Status

QUERY = frames.TRIALS
KIND, WIDTH, RATE = "model_parametrization", "model_width", "optimizer_learning_rate"
LOSS, BEST = "training loss (nats)", "best learning rate"
STANDARD, MUP = "standard", "mup"
RATES, LOSSES = (BEST, WIDTH, KIND), (LOSS, RATE, WIDTH)
"""Quantity of a figure, column along x, column of the curves."""


def with_loss(trials: pd.DataFrame) -> pd.DataFrame:
    """Returns the trials with their training loss: infinite where a trial diverged, NaN where it has no result."""
    loss = frames.share(trials["train_loss_sum_nats"], trials["train_count"])
    loss = loss.where(np.isfinite(loss), np.inf).where(frames.usable(trials))
    return trials.assign(**{LOSS: loss.mask(trials["status"] == Status.DIVERGED.value, np.inf)})


def best_rates(trials: pd.DataFrame) -> pd.DataFrame:
    """Returns a row per parametrization, width and seed: log2 of its best rate, and its smallest loss.

    trials: as for `with_loss`.
    Returns model_parametrization, model_width, seed, log_rate, loss, is_end (the best of the rates is the smallest or
    the largest). NaN where a seed lacks a trial of some rate, or all diverged.
    """
    rates = trials[RATE].nunique()
    return statistics.by_group(with_loss(trials), [KIND, WIDTH, "seed"], partial(_best, count=rates))


def transferred(trials: pd.DataFrame) -> pd.DataFrame:
    """Returns a row per parametrization, width and seed: its loss at the seed's best rate for the narrowest network.

    The rate is one of the rates of the sweep.
    Returns model_parametrization, model_width, seed, rate, loss (infinite: diverged), least (its smallest loss).
    """
    rows = with_loss(trials)
    narrowest = rows[WIDTH].min()
    pieces = []
    for _, of_seed in rows.groupby([KIND, "seed"], sort=True):
        losses = of_seed.pivot_table(index=WIDTH, columns=RATE, values=LOSS, aggfunc="first", dropna=False)
        first = losses.reindex([narrowest]).iloc[0]
        if first.isna().any() or not np.isfinite(first).any():
            continue
        place, table = int(first.to_numpy(float).argmin()), losses.to_numpy(float)
        setting = {name: of_seed[name].iloc[0] for name in (KIND, "seed")} | {"rate": losses.columns[place]}
        pieces += [
            {**setting, WIDTH: width, "loss": table[row, place], "least": table[row].min()}
            for row, width in enumerate(losses.index)
        ]
    return pd.DataFrame(pieces, columns=[KIND, WIDTH, "seed", "rate", "loss", "least"])


def summarize(trials: pd.DataFrame) -> pd.DataFrame:
    """Returns training losses by rate and best rates by width: geometric means over seeds.

    trials: as for `with_loss`. Other varying fields are averaged over.
    Returns quantity, model_parametrization, model_width, optimizer_learning_rate (NaN for best rates), estimate, low,
    high (bootstrap over seeds, 95 %), seeds, missing (a diverged trial is missing in a mean), at_end (seeds whose best
    rate is the smallest or the largest).
    """
    if trials.empty:
        return pd.DataFrame(columns=[*_COLUMNS])
    rows = with_loss(trials)
    rows = rows.assign(log=np.log(rows[LOSS].where(np.isfinite(rows[LOSS]) & (rows[LOSS] > 0))))
    losses = statistics.over_seeds(rows, [KIND, WIDTH, RATE], "log")
    best = best_rates(trials)
    rates = statistics.over_seeds(best.assign(log=best["log_rate"] * np.log(2)), [KIND, WIDTH], "log")
    ends = best.groupby([KIND, WIDTH])["is_end"].sum().reset_index(name="at_end")
    pieces = [losses.assign(quantity=LOSS, at_end=0), rates.merge(ends).assign(quantity=BEST)]
    summary = pd.concat(pieces, ignore_index=True)
    shown = {name: np.exp(summary[name].astype(float)) for name in ("estimate", "low", "high")}
    return summary.assign(**shown)[[*_COLUMNS]]


def draw(summary: pd.DataFrame, ax: Axes, view: View = DEFAULT) -> Axes:
    """Draws the best rate against the width, a curve a parametrization, beside a rate proportional to 1 / width."""
    axis = {"xscale": "log", "yscale": "log"}
    ends = {"at_end": ("o", "some seeds at an end of the rates")}
    return series.draw(summary, ax, RATES, {}, axis, view, bounds=ends, lines=_proportional)


def draw_losses(summary: pd.DataFrame, ax: Axes, view: View = DEFAULT) -> Axes:
    """Draws the training loss against the rate, a curve a width and a panel a parametrization; the smallest of each
    curve is marked."""
    losses = summary[(summary["quantity"] == LOSS) & (summary["estimate"] > 0)]
    top = min(losses["estimate"].max(), 10.0) * 1.5
    axis = {"xscale": "log", "yscale": "log", "ylim": (losses["estimate"].min() / 1.5, top)} if len(losses) else {}
    return series.draw(losses, ax, LOSSES, {}, axis, view, **({} if view.x else {"mark": _smallest}))


def _proportional(ax: Axes, rows: pd.DataFrame, x: str) -> None:
    """Draws a rate proportional to 1 / width, through the first rate of the standard parametrization, else of muP."""
    first = rows.dropna(subset="estimate").sort_values([KIND, WIDTH], ascending=[False, True])
    if x == WIDTH and len(first):
        widths = np.sort(rows[WIDTH].unique().astype(float))
        line = first["estimate"].iloc[0] * first[WIDTH].iloc[0] / widths
        figures.reference(ax, widths, line, "proportional to 1 / width", ":")


def _smallest(ax: Axes, points: pd.DataFrame, color: str) -> None:
    least = points.nsmallest(1, "estimate")
    figures.hollow(ax, least[RATE], least["estimate"], "smallest of a width", color=color)


def _best(rows: pd.DataFrame, count: int) -> dict[str, float]:
    """Returns log2 of the best rate of a seed's trials at one width.  count: rates that a seed should have."""
    along = rows.sort_values(RATE)
    logs, losses = np.log2(along[RATE].to_numpy(float)), along[LOSS].to_numpy(float)
    if len(along) < count or np.isnan(losses).any() or not np.isfinite(losses).any():
        return {"log_rate": np.nan, "loss": np.nan, "is_end": np.nan}
    i = int(losses.argmin())
    is_end = i in (0, len(losses) - 1)
    vertex = logs[i]
    if not is_end and np.isfinite(losses[i - 1 : i + 2]).all() and losses[i] > 0:
        a, b, _ = np.polyfit(logs[i - 1 : i + 2] - logs[i], np.log(losses[i - 1 : i + 2]), 2)
        vertex += -b / (2 * a) if a > 0 else 0.0
    return {"log_rate": float(vertex), "loss": float(losses[i]), "is_end": float(is_end)}


_COLUMNS = ("quantity", KIND, WIDTH, RATE, "estimate", "low", "high", "seeds", "missing", "at_end")
_MEAN = "Geometric mean over seeds; bars: 95 % bootstrap interval over seeds."
FIGURES = (
    figures.Figure(
        "best-rate",
        "Best learning rate by width",
        draw,
        "The rate of the smallest training loss after the same number of steps, interpolated for each seed between "
        f"neighbouring rates. {_MEAN}",
        rows=frames.of_quantity(BEST),
        axes=partial(series.keys, what=RATES, selection={}),
    ),
    figures.Figure(
        "loss",
        "Training loss by learning rate",
        draw_losses,
        "At the end of training. Rings: the smallest of each curve. Rates at which seeds diverged have the mean of the "
        f"others. {_MEAN}",
        rows=frames.of_quantity(LOSS),
        axes=partial(series.keys, what=LOSSES, selection={}),
    ),
)
