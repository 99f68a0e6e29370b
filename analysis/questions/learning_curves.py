"""When is what learned: does validation accuracy peak before all training labels are fitted?"""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from memsweep.analysis.core import figures, frames, series, statistics

QUERY = frames.CURVES
KIND = "labels"
CURVES = 5
"""Largest number of noise fractions shown, evenly chosen."""
POINTS = 24
"""Largest number of measurements shown of a curve, evenly chosen on a logarithmic scale of epochs."""
FITTED = 0.9
"""Training accuracy from which the noisy set counts as fitted; our threshold, the paper prints none."""

NOISE = "data_noise_fraction"
VALIDATION, TRAIN, MEMORIZED = "validation accuracy", "train accuracy", "memorized share"
PEAK, FIT, LOST = "epoch of best validation", "epoch of fit", "validation accuracy lost after its peak"
_TURNS = (PEAK, FIT, LOST, "censored")
SHARES = {
    VALIDATION: ("validation_correct_count", "validation_count"),
    TRAIN: ("train_correct_count", "train_count"),
    MEMORIZED: ("memorized_count", "label_changed_count"),
}


def select(steps: pd.DataFrame) -> pd.DataFrame:
    """Returns rows of at most CURVES noise fractions, of label noise where there are several kinds.

    Other varying fields are held at their first, or weakest, values.
    """
    if (steps["data_noise_kind"] == KIND).any():
        steps = steps[(steps["data_noise_kind"] == KIND) | (steps["data_noise_fraction"] == 0)].assign(
            data_noise_kind=KIND
        )
    for name in frames.varying(steps):
        if name != "data_noise_fraction":
            steps = steps[steps[name] == np.sort(steps[name].unique())[0]]
    noise = np.sort(steps["data_noise_fraction"].unique())
    if not len(noise):
        return steps
    return steps[steps["data_noise_fraction"].isin(noise[_even(len(noise), CURVES)])]


def summarize(steps: pd.DataFrame) -> pd.DataFrame:
    """Returns curves (a row per quantity, noise fraction and epoch) and turning points (per quantity and fraction).

    steps: rows of the table `steps` with the fields of their trials (`frames.read`), filtered by `select`; a trial
    without steps is one row. Trials that failed, diverged or are not stored count as missing. A trial that finished
    before its budget, since it was fitted, keeps its last values (`ended` counts such seeds), as long as other trials
    of its noise fraction go on.
    Turning points, of each seed's own curve: the epoch of its best validation accuracy, the first epoch at which its
    training accuracy on labels as given reaches FITTED (censored at the last epoch: at_least counts such seeds), and
    the validation accuracy lost from the peak to the end. The peak is a maximum over epochs, so a little too high.
    Returns quantity, data_noise_fraction, epoch, estimate, low, high (bootstrap over seeds, 95 %), seeds, missing,
    at_least, ended.
    """
    columns = ["quantity", NOISE, "epoch", "estimate", "low", "high", "seeds", "missing", "at_least", "ended"]
    if steps.empty:
        return pd.DataFrame(columns=columns)
    rows = select(steps)
    good = frames.usable(rows)
    rows = rows.assign(**{name: frames.share(rows[a], rows[b]).where(good) for name, (a, b) in SHARES.items()})
    times, by = spaced(np.sort(rows["epoch"].dropna().unique())), [NOISE, "epoch"]
    shown = pd.concat([_shares_at(curves, times).assign(**{NOISE: noise}) for noise, curves in rows.groupby(NOISE)])
    ended = shown.groupby(by)["ended"].sum().reset_index()
    pieces = [
        statistics.over_seeds(shown, by, name).merge(ended, on=by).assign(quantity=name, at_least=0)
        for name in SHARES
        if shown[name].notna().any()
    ]
    measured = rows[good & rows["epoch"].notna()]
    of_seeds = statistics.by_group(measured, [NOISE, "seed"], turns).reindex(columns=[NOISE, "seed", *_TURNS])
    turning = rows[[NOISE, "seed"]].drop_duplicates().merge(of_seeds.astype({NOISE: float, "seed": int}), "left")
    for name in (PEAK, FIT, LOST):
        estimated = statistics.over_seeds(turning, [NOISE], name)
        censored = turning.groupby(NOISE, sort=True)["censored"].sum().astype(int).to_numpy() if name == FIT else 0
        pieces.append(estimated.assign(quantity=name, epoch=np.nan, at_least=censored, ended=0))
    return pd.concat(pieces, ignore_index=True)[columns].dropna(subset="estimate")


def draw(summary: pd.DataFrame, ax: Axes, quantity: str = VALIDATION) -> Axes:
    """Draws one quantity against epochs, a curve a noise fraction; on validation curves turning points are marked."""
    chosen = summary[summary["quantity"] == quantity]
    if chosen.empty:
        return figures.empty(ax, f"no measurement has a value for {quantity}")
    curves = list(chosen.groupby("data_noise_fraction", sort=True))
    for (key, points), look in zip(curves, figures.looks(len(curves), ordered=True), strict=True):
        noise = float(str(key))
        figures.curve(ax, points, "epoch", label=frames.text(noise, chosen["data_noise_fraction"].unique()), **look)
        if quantity == VALIDATION:
            for name, marker in ((PEAK, "*"), (FIT, "o")):
                _mark(ax, summary, points, noise, name, marker, look["color"])
    ax.set(xscale="log", xlabel="epochs", ylabel=quantity, ylim=(0, min(1.0, ax.get_ylim()[1]) + 0.02))
    figures.plain_ticks(ax.xaxis)
    figures.legend(ax, "noise fraction")
    return ax


def turning_points(summary: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows of turning points."""
    return summary[summary["quantity"].isin((PEAK, FIT, LOST))].drop(columns="epoch")


def _even(length: int, count: int) -> np.ndarray:
    """Returns at most `count` positions of `length`, evenly spaced, both ends included."""
    return np.unique(np.linspace(0, length - 1, count).round().astype(int))


def spaced(times: np.ndarray) -> np.ndarray:
    """Returns at most POINTS of these positive times, in order, evenly chosen on a logarithmic scale."""
    positive = times[times > 0]
    if not len(positive):
        return positive
    wanted = np.geomspace(positive[0], positive[-1], POINTS)
    return np.unique(positive[np.abs(positive[:, None] - wanted).argmin(0)])


def turns(curve: pd.DataFrame) -> dict[str, float]:
    """Returns turning points of one trial's curve; FIT is its last epoch where it is never fitted (`censored`).

    curve: rows of one trial, with epoch, VALIDATION and TRAIN.
    """
    curve = curve.sort_values("epoch")
    validation, fitted = curve[VALIDATION].to_numpy(), curve.loc[curve[TRAIN] >= FITTED, "epoch"]
    measured = not np.isnan(validation).all()
    return {
        PEAK: curve["epoch"].iloc[int(np.nanargmax(validation))] if measured else np.nan,
        FIT: fitted.iloc[0] if len(fitted) else curve["epoch"].iloc[-1],
        LOST: np.nanmax(validation) - validation[-1] if measured else np.nan,
        "censored": len(fitted) == 0,
    }


def _shares_at(curves: pd.DataFrame, times: np.ndarray) -> pd.DataFrame:
    """Returns the shares of each trial at these times, up to the end of the longest trial."""
    end = curves.loc[frames.usable(curves), "epoch"].max()
    within = times if np.isnan(end) else times[times <= end]
    trials = curves.groupby("trial_id", sort=False)
    return pd.concat([series.at_times(trial, "epoch", within, [*SHARES]) for _, trial in trials], ignore_index=True)


def _mark(
    ax: Axes, summary: pd.DataFrame, points: pd.DataFrame, noise: float, name: str, marker: str, color: str
) -> None:
    turn = summary[(summary["quantity"] == name) & (summary["data_noise_fraction"] == noise)]
    if turn.empty or turn["at_least"].iloc[0] > 0:
        return
    epoch = turn["estimate"].iloc[0]
    height = np.interp(np.log(epoch), np.log(points["epoch"]), points["estimate"])
    label = {PEAK: "best validation", FIT: f"{FITTED:.0%} of labels fitted"}[name]
    figures.hollow(ax, [epoch], [height], label, marker=marker, color=color)


_INTERVAL = "Mean over seeds; bars: 95 % bootstrap interval over seeds."

FIGURES = (
    figures.Figure(
        "validation",
        "Validation accuracy over epochs",
        draw,
        "Stars: mean epoch of each seed's best validation accuracy; rings: mean epoch at which 90 % of the training "
        f"labels, noise included, are fitted (no ring: not by all seeds). {_INTERVAL}",
        rows=turning_points,
    ),
    figures.Figure(
        "train",
        "Training accuracy over epochs",
        partial(draw, quantity=TRAIN),
        f"On labels as given, noise included. {_INTERVAL}",
        rows=figures.of_quantity(TRAIN),
    ),
    figures.Figure(
        "memorized",
        "Wrong labels memorized over epochs",
        partial(draw, quantity=MEMORIZED),
        f"Share of the labels that noise changed which are predicted as given. {_INTERVAL}",
        rows=figures.of_quantity(MEMORIZED),
    ),
)
