"""How long after they fit their training examples do networks generalize, by weight decay, width and training share?

The delay is the number of steps to GENERAL validation accuracy less the steps to FIT training accuracy. A network that
does not generalize within its budget has a delay of which only a lower bound is known (censored). With wrong labels
among the training examples: the most of them that are memorized, and what is left of it at the end.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from memsweep.analysis.core import figures, frames, panels, statistics
from memsweep.analysis.core.arrangement import DEFAULT, View
from memsweep.spec.fields.sizes import modular_rows
from memsweep.spec.numerals import texts
from memsweep.spec.options import MODULUS

ALSO = ("grokking_curves",)
FIT, GENERAL = 0.99, 0.9
"""Accuracies on training examples, as labelled, and on validation examples, that end the two phases."""
QUERY = f"""select w.trial_id, w.setting_id, w.seed, t.status, t.step_count,
t.memorized_count, t.label_changed_count, t.validation_correct_count, t.validation_count,
min(s.step) filter (where s.train_correct_count >= {FIT} * s.train_count) as fit_step,
min(s.step) filter (where s.validation_correct_count >= {GENERAL} * s.validation_count) as general_step,
max(s.memorized_count) as peak_memorized_count,
arg_max(s.validation_correct_count, s.memorized_count - s.step / 1e12) as peak_validation_correct_count
from wanted w left join trials t using (trial_id) left join steps s using (trial_id)
where w.sweep = '{{sweep}}' group by all order by min(w.position)"""
"""A row a trial: its last counts, the first steps at which it fits and generalizes (null: never), the most wrong labels
that it memorizes, and its validation count at the first step at which it memorizes the most."""

DECAY, WIDTH, SHARE, NOISE = "regularization_weight_decay", "model_width", "share", "data_noise_fraction"
SETTING = (DECAY, WIDTH, SHARE, NOISE)
TO_FIT = f"steps to {FIT:.0%} training accuracy"
TO_GENERALIZE = f"steps to {GENERAL:.0%} validation accuracy"
DELAY = "steps between both"
GENERALIZED = "networks that generalize (share)"
PEAK, LEFT = "wrong labels memorized at most (share)", "wrong labels memorized at the end (share)"
TIMES = (TO_FIT, TO_GENERALIZE, DELAY)


def with_measures(trials: pd.DataFrame) -> pd.DataFrame:
    """Returns the trials with their measures, NaN where a trial has no result.

    trials: rows of QUERY with the fields of their trials (`frames.read`).
    Adds share (of all pairs that are training examples); each of TIMES in steps, at the budget where it is not reached,
    and whether it is censored there (a column `censored: ` and its name); GENERALIZED (0 or 1); PEAK, LEFT (NaN without
    wrong labels).
    """
    good = frames.usable(trials)
    ends = trials["step_count"].astype(float).where(good)
    fit, general = (trials[name].astype(float) for name in ("fit_step", "general_step"))
    times = {TO_FIT: fit.fillna(ends), TO_GENERALIZE: general.fillna(ends)}
    times[DELAY] = times[TO_GENERALIZE] - times[TO_FIT]
    censored = {TO_FIT: fit.isna(), TO_GENERALIZE: general.isna(), DELAY: general.isna()}
    wrong = trials["label_changed_count"]
    others = {
        GENERALIZED: general.notna().astype(float),
        PEAK: frames.share(trials["peak_memorized_count"], wrong),
        LEFT: frames.share(trials["memorized_count"], wrong),
    }
    return trials.assign(
        **{SHARE: training_shares(trials)},
        **{name: values.where(good) for name, values in {**times, **others}.items()},
        **{f"censored: {name}": values for name, values in censored.items()},
    )


def training_shares(trials: pd.DataFrame) -> pd.Series[float]:
    """Returns the share of all pairs of numbers that are training examples, of trials of the task modular."""
    sizes = [
        modular_rows(operation, int(modulus) or MODULUS)
        for operation, modulus in zip(trials["data_operation"], trials["data_modulus"], strict=True)
    ]
    shares: pd.Series[float] = trials["data_examples"].astype(float) / np.array(sizes, float)
    return shares


def select(trials: pd.DataFrame) -> pd.DataFrame:
    """Returns the trials of the task modular."""
    return trials[trials["data_task"] == "modular"]


def summarize(trials: pd.DataFrame) -> pd.DataFrame:
    """Returns a row per quantity and setting: median over seeds of TIMES, share of seeds for GENERALIZED, other means.

    trials: as for `with_measures`, filtered by `select`. Fields other than those of SETTING do not make a setting.
    Returns quantity, regularization_weight_decay, model_width, share, data_noise_fraction, estimate, low, high (at
    95 %: the sign test's interval, Wilson's, bootstrap), seeds, missing, censored (seeds), at_least (1: half of the
    seeds or more are censored, and the median lies at the estimate or beyond), budget (steps).
    """
    rows = with_measures(trials)
    pieces = [
        statistics.median_over_seeds(rows, SETTING, name, f"censored: {name}").assign(quantity=name) for name in TIMES
    ]
    pieces.append(statistics.share_over_seeds(rows, SETTING, GENERALIZED).assign(quantity=GENERALIZED))
    noisy = rows[rows[NOISE] > 0]
    pieces += [statistics.over_seeds(noisy, SETTING, name).assign(quantity=name) for name in (PEAK, LEFT)]
    pieces = [piece for piece in pieces if len(piece)]
    if not pieces:
        return pd.DataFrame(columns=[*_COLUMNS])
    budget = frames.budget(trials).max()
    summary = pd.concat(pieces, ignore_index=True).assign(budget=budget)
    return summary.fillna({"censored": 0, "at_least": 0})[[*_COLUMNS]]


def main_value(rows: pd.DataFrame, column: str, largest: bool = True) -> float:
    """Returns the value of a column that most rows have; of several, the largest or the middle one."""
    counts = rows[column].value_counts()
    values = np.sort(counts.index[counts == counts.max()].to_numpy(float))
    return float(values[-1] if largest else values[len(values) // 2])


def along(summary: pd.DataFrame, x: str, fixed: str) -> tuple[pd.DataFrame, float]:
    """Returns the clean rows at one value of a column, which is held, and this value.

    x: the column that is drawn along.  fixed: the column that is held: the width at its largest, the share at its
    middle value.
    """
    clean = summary[summary[NOISE] == 0]
    varied = clean[clean.groupby(fixed)[x].transform("nunique") > 1]
    rows = varied if len(varied) else clean
    value = main_value(rows, fixed, largest=fixed == WIDTH)
    return clean[clean[fixed] == value], value


def axes(summary: pd.DataFrame) -> list[str]:
    """Returns the columns that a view may choose."""
    return list(SETTING)


def draw(summary: pd.DataFrame, ax: Axes, x: str, curves: str, fixed: str, view: View = DEFAULT) -> Axes:
    """Draws the median steps to fit (dashed) and to generalize (solid) along x, a colour a value of `curves`.

    fixed: the column that is held, as by `along`, unless a view chooses it.
    A median that half of the seeds exceed by the end of training stands at the budget, as an open triangle.
    """
    if summary.empty or summary["estimate"].isna().all():
        return figures.empty(ax, "no finished trial of the task modular")
    clean = summary[(summary[NOISE] == 0) & summary["quantity"].isin((TO_FIT, TO_GENERALIZE))]
    chosen, note = view.within(axes(summary)), ""
    across = chosen.x or x
    if fixed not in (across, chosen.y, *chosen.curves, *chosen.panels):
        clean, value = along(clean, across, fixed)
        note = f"at {_name(fixed)} {texts([value], digits=2)[0]}"
    high = clean["high"].astype(float).clip(upper=clean["budget"].astype(float))
    is_range = high > clean["low"]  # else all seeds cross between the same two measurements, or not at all
    names = clean["quantity"].map(_PHASES)
    clean = clean.assign(low=clean["low"].where(is_range), high=high.where(is_range), quantity=names)
    plane = panels.Plane(
        *("steps", x, (curves,), {"xlabel": _name(x), "yscale": "log"}),
        fixed=note,
        lines=_end,
        bounds={"at_least": ("^", "not by half of the seeds")},
        dashes=dict(zip(_PHASES.values(), ("-", "--"), strict=True)),
    )
    return panels.draw(clean, ax, axes(summary), plane, view)


def draw_memorized(summary: pd.DataFrame, ax: Axes, view: View = DEFAULT) -> Axes:
    """Draws the share of wrong labels memorized at most, and what is left at the end, against the weight decay."""
    noisy = summary[summary["quantity"].isin((PEAK, LEFT))]
    if noisy["estimate"].isna().all():
        return figures.empty(ax, "no finished trial with wrong labels")
    axis = {"ylabel": "wrong labels memorized (share)", "ylim": (-0.02, 1.02)}
    plane = panels.Plane("share", DECAY, ("quantity",), axis, is_scaled=False)
    noisy = noisy.assign(quantity=noisy["quantity"].map({PEAK: "at most, in training", LEFT: "at the end"}))
    return panels.draw(noisy, ax, axes_of_memorized(summary), plane, view)


def axes_of_memorized(summary: pd.DataFrame) -> list[str]:
    """Returns the columns that a view may choose of the shares of wrong labels."""
    return [*SETTING, "quantity"]


_PHASES = {TO_GENERALIZE: f"to {GENERAL:.0%} validation", TO_FIT: f"to {FIT:.0%} training"}


def _end(ax: Axes, rows: pd.DataFrame, x: str) -> None:
    budget, ends = float(rows["budget"].iloc[0]), [rows[x].min(), rows[x].max()]
    figures.reference(ax, ends, [budget, budget], "end of training", ":")


def _name(column: str) -> str:
    return {SHARE: "training share"}.get(column, frames.short(column))


_COLUMNS = ("quantity", *SETTING, "estimate", "low", "high", "seeds", "missing", "censored", "at_least", "budget")
_NOTE = (
    f"Dashed: first measured step with {FIT:.0%} training accuracy; solid: with {GENERAL:.0%} validation accuracy; "
    "the distance is the delay. Median over seeds; bars: 95 % intervals of the sign test, up to the end of training "
    "where seeds do not get there. Triangles at the end of training: half of the seeds or more do not get there, and "
    "the median lies beyond."
)
FIGURES = (
    figures.Figure(
        "share",
        "Steps to fit and to generalize, by training share",
        partial(draw, x=SHARE, curves=DECAY, fixed=WIDTH),
        f"{_NOTE} Training share: of all pairs of numbers.",
        rows=lambda summary: _shown(summary, SHARE, WIDTH),
        axes=axes,
    ),
    figures.Figure(
        "decay",
        "Steps to fit and to generalize, by weight decay",
        partial(draw, x=DECAY, curves=WIDTH, fixed=SHARE),
        _NOTE,
        rows=lambda summary: _shown(summary, DECAY, SHARE),
        axes=axes,
    ),
    figures.Figure(
        "given-back",
        "Wrong labels memorized and given back",
        draw_memorized,
        "Of the training examples with a wrong label, the share that is predicted as given: the most at any "
        "measurement, and at the end. Mean over seeds; bars: 95 % bootstrap interval over seeds.",
        rows=lambda summary: summary[summary["quantity"].isin((PEAK, LEFT))].drop(columns=["budget", "at_least"]),
        axes=axes_of_memorized,
    ),
)


def _shown(summary: pd.DataFrame, x: str, fixed: str) -> pd.DataFrame:
    """Returns the rows of the steps that a figure shows."""
    times = summary[summary["quantity"].isin(TIMES)]
    return along(times, x, fixed)[0] if len(times) else times
