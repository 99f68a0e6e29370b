"""When is what learned: does validation accuracy peak before all training labels are fitted?"""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from memsweep.analysis.core import figures, frames, panels, series, statistics
from memsweep.analysis.core.arrangement import DEFAULT, View, ViewError, arrange

QUERY = frames.CURVES
KIND = "labels"
CURVES = 5
"""Most curves of a panel, evenly chosen."""
POINTS = 24
"""Largest number of measurements shown of a curve, evenly chosen on a logarithmic scale of epochs."""
FITTED = 0.9
"""Training accuracy from which the noisy set counts as fitted; our threshold, the paper prints none."""

NOISE = "data_noise_fraction"
VALIDATION, TRAIN, MEMORIZED = "validation accuracy", "train accuracy", "memorized share"
VALIDATION_LOSS, TRAIN_LOSS = "validation loss", "train loss"
PEAK, FIT, LOST = "epoch of best validation", "epoch of fit", "validation accuracy lost after its peak"
_TURNS = (PEAK, FIT, LOST, "censored")
SHARES = {
    VALIDATION: ("validation_correct_count", "validation_count"),
    TRAIN: ("train_correct_count", "train_count"),
    MEMORIZED: ("memorized_count", "label_changed_count"),
    VALIDATION_LOSS: ("validation_loss_sum_nats", "validation_count"),
    TRAIN_LOSS: ("train_loss_sum_nats", "train_count"),
}


def select(steps: pd.DataFrame, view: View = DEFAULT) -> pd.DataFrame:
    """Returns the rows of the settings that are drawn, and `fixed`, what they leave out, in words.

    Of several kinds of noise, label noise is shown. A curve is a noise fraction, of at most CURVES evenly chosen; other
    varying fields make panels (`arrangement.arrange`).  view: other curves and panels.
    """
    if (steps["data_noise_kind"] == KIND).any():
        steps = steps[(steps["data_noise_kind"] == KIND) | (steps["data_noise_fraction"] == 0)].assign(
            data_noise_kind=KIND
        )
    fields = frames.varying(steps)
    if not fields:
        return steps.assign(fixed="")
    settings = steps.drop_duplicates(fields).assign(estimate=1.0, epoch=0.0)
    try:
        chosen = view.within(["epoch", *fields])
    except ViewError:
        chosen = DEFAULT
    if chosen.x not in ("", "epoch") or chosen.y:  # epochs make panels
        return steps.assign(fixed="")
    usual = [NOISE] if NOISE in fields else []
    arranged = arrange(settings, ["epoch", *fields], chosen, "epoch", usual, most=CURVES)
    return steps.merge(arranged.rows[fields], on=fields).assign(fixed="; ".join(arranged.notes))


def summarize(steps: pd.DataFrame) -> pd.DataFrame:
    """Returns curves (a row per quantity, setting and epoch) and turning points (per quantity and setting).

    steps: rows of the table `steps` with the fields of their trials (`frames.read`), filtered by `select`; a trial
    without steps is one row. Trials that failed, diverged or are not stored count as missing. A trial that finished
    before its budget, since it was fitted, keeps its last values (`ended` counts such seeds), as long as other trials
    of its setting go on.
    Turning points, of each seed's own curve: the epoch of its best validation accuracy, the first epoch at which its
    training accuracy on labels as given reaches FITTED (censored at the last epoch: at_least counts such seeds), and
    the validation accuracy lost from the peak to the end. The peak is a maximum over epochs, so a little too high.
    Returns quantity, data_noise_fraction and other varying fields, epoch, estimate, low, high (bootstrap over seeds,
    95 %), seeds, missing, at_least, ended, values (pairs of a seed and its value), fixed (by `select`), classes.
    """
    if steps.empty:
        return pd.DataFrame(columns=["quantity", NOISE, *_COLUMNS])
    rows = steps if "fixed" in steps else select(steps)
    good = frames.usable(rows)
    shares = {name: parts for name, parts in SHARES.items() if parts[0] in rows}
    rows = rows.assign(**{name: frames.share(rows[a], rows[b]).where(good) for name, (a, b) in shares.items()})
    for name in {VALIDATION_LOSS, TRAIN_LOSS} & shares.keys():
        rows[name] = rows[name].where(frames.has_nats(rows, name.partition(" ")[0]))
    fields = list(dict.fromkeys([NOISE, *frames.varying(rows)]))
    times, by = spaced(np.sort(rows["epoch"].dropna().unique())), [*fields, "epoch"]
    shown = _shown(rows, fields, times, [*shares])
    ended = shown.groupby(by, dropna=False)["ended"].sum().reset_index()
    pieces = [
        statistics.over_seeds(shown, by, name, has_values=True).merge(ended, on=by).assign(quantity=name, at_least=0)
        for name in shares
        if shown[name].notna().any()
    ]
    whole = pd.concat([*pieces, *_turning(rows, fields)], ignore_index=True)
    classes = rows["class_count"].astype(float).max() if "class_count" in rows else np.nan
    whole = whole.assign(fixed=rows["fixed"].iloc[0], classes=classes)
    return whole[["quantity", *fields, *_COLUMNS]].dropna(subset="estimate")


def _shown(rows: pd.DataFrame, fields: list[str], times: np.ndarray, names: list[str]) -> pd.DataFrame:
    """Returns these shares of each trial at these times, with the fields of its setting."""
    pieces = []
    for _, curves in rows.groupby(fields, dropna=False):
        of_setting = {name: curves[name].iloc[0] for name in fields}
        pieces.append(_shares_at(curves, times, names).assign(**of_setting))
    return pd.concat(pieces)


def _turning(rows: pd.DataFrame, fields: list[str]) -> list[pd.DataFrame]:
    """Returns the turning points of each setting, by quantity."""
    keys = [*fields, "seed"]
    measured = rows[frames.usable(rows) & rows["epoch"].notna()]
    of_seeds = statistics.by_group(measured, keys, turns).reindex(columns=[*keys, *_TURNS])
    of_seeds = of_seeds.astype({name: rows[name].dtype for name in keys})
    turning = rows[keys].drop_duplicates().merge(of_seeds, how="left", on=keys)
    pieces = []
    for name in (PEAK, FIT, LOST):
        estimated = statistics.over_seeds(turning, fields, name, has_values=True)
        censored = turning.groupby(fields, sort=True, dropna=False)["censored"].sum().astype(int).to_numpy()
        at_least = censored if name == FIT else 0
        pieces.append(estimated.assign(quantity=name, epoch=np.nan, at_least=at_least, ended=0))
    return pieces


_COLUMNS = (
    "epoch", "estimate", "low", "high", "seeds", "missing", "at_least", "ended", "values", "fixed", "classes"
)  # fmt: skip


def draw(summary: pd.DataFrame, ax: Axes, quantity: str = VALIDATION, view: View = DEFAULT) -> Axes:
    """Draws one quantity against epochs, a curve a noise fraction; on validation curves turning points are marked.

    view: other fields of curves and panels, or along x, where epochs make panels.
    """
    chosen = summary[summary["quantity"] == quantity]
    if chosen.empty:
        return figures.empty(ax, f"no measurement has a value for {quantity}")
    fields = axes(chosen)[1:]
    is_loss, classes = "loss" in quantity, float(chosen["classes"].iloc[0])
    top = min(1.0, chosen[["estimate", "high"]].max().max() + 0.05) + 0.02
    is_marked = quantity == VALIDATION and view.x in ("", "epoch") and not view.y
    plane = panels.Plane(
        f"{quantity} (nats)" if is_loss else quantity,
        "epoch",
        (NOISE,) if chosen[NOISE].nunique() > 1 else (),
        {"xscale": "log", "xlabel": "epochs", "ylim": (0, None if is_loss else top)},
        chance=None if not classes > 1 else float(np.log(classes)) if is_loss else 1 / classes,
        fixed=chosen["fixed"].iloc[0],
        mark=partial(_marks, summary, fields) if is_marked else panels.unmarked,
    )
    return panels.draw(chosen, ax, axes(chosen), plane, view)


def axes(summary: pd.DataFrame) -> list[str]:
    """Returns the columns that a view may choose: epoch, and the fields of a summary."""
    return ["epoch", *(name for name in frames.fields_of(summary) if name != "seed")]


def turning_points(summary: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows of turning points."""
    return summary[summary["quantity"].isin((PEAK, FIT, LOST))].drop(columns=["epoch", "classes"])


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
    order = curve["epoch"].to_numpy(float).argsort()
    epoch, validation, train = (curve[name].to_numpy(float)[order] for name in ("epoch", VALIDATION, TRAIN))
    fitted = epoch[train >= FITTED]
    measured = not np.isnan(validation).all()
    return {
        PEAK: epoch[int(np.nanargmax(validation))] if measured else np.nan,
        FIT: fitted[0] if len(fitted) else epoch[-1],
        LOST: np.nanmax(validation) - validation[-1] if measured else np.nan,
        "censored": len(fitted) == 0,
    }


def _shares_at(curves: pd.DataFrame, times: np.ndarray, names: list[str]) -> pd.DataFrame:
    """Returns these shares of each trial at these times, up to the end of the longest trial."""
    end = curves.loc[frames.usable(curves), "epoch"].max()
    within = times if np.isnan(end) else times[times <= end]
    trials = curves.groupby("trial_id", sort=False)
    at_times = [
        series.at_times(trial, "epoch", within, names).assign(seed=trial["seed"].iloc[0]) for _, trial in trials
    ]
    return pd.concat(at_times, ignore_index=True)


def _marks(summary: pd.DataFrame, fields: list[str], ax: Axes, points: pd.DataFrame, color: str) -> None:
    """Marks the turning points of one setting on its curve.  points: of the curve."""
    for name, marker in ((PEAK, "*"), (FIT, "o")):
        turn = summary[summary["quantity"] == name]
        turn = frames.having(turn, {field: points[field].iloc[0] for field in fields if len(points)})
        if points.empty or turn.empty or turn["at_least"].iloc[0] > 0:
            continue
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
        axes=axes,
    ),
    figures.Figure(
        "train",
        "Training accuracy over epochs",
        partial(draw, quantity=TRAIN),
        f"On labels as given, noise included. {_INTERVAL}",
        rows=frames.of_quantity(TRAIN),
        axes=axes,
    ),
    figures.Figure(
        "memorized",
        "Wrong labels memorized over epochs",
        partial(draw, quantity=MEMORIZED),
        f"Share of the labels that noise changed which are predicted as given. {_INTERVAL}",
        rows=frames.of_quantity(MEMORIZED),
        axes=axes,
    ),
    *(
        figures.Figure(
            name,
            title,
            partial(draw, quantity=quantity),
            f"Mean of an example's loss {on}. Chance: the loss of giving all classes the same probability. {_INTERVAL}",
            rows=frames.of_quantity(quantity),
            axes=axes,
        )
        for name, title, quantity, on in (
            ("validation-loss", "Validation loss over epochs", VALIDATION_LOSS, "on validation data"),
            ("train-loss", "Training loss over epochs", TRAIN_LOSS, "on labels as given, noise included"),
        )
    ),
)
