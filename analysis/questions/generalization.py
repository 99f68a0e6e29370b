"""How do accuracy and the fate of wrong labels change along the axes of a sweep?

`summarize` and `draw` work for every sweep with one numeric axis: what else varies makes the curves.
"""

from __future__ import annotations

from functools import partial

import pandas as pd
from matplotlib.axes import Axes
from pandas.api.types import is_numeric_dtype

from memsweep.analysis.core import figures, frames, statistics

QUERY = frames.TRIALS
ALSO = ("learning_curves",)
"""Further analysis modules for the same trials."""

X = "data_noise_fraction"

QUANTITIES = {
    # quantity: (part, whole)
    "test accuracy": ("test_correct_count", "test_count"),
    "validation accuracy": ("validation_correct_count", "validation_count"),
    "train accuracy": ("train_correct_count", "train_count"),
    "memorized share": ("memorized_count", "label_changed_count"),
    "recovered share": ("recovered_count", "label_changed_count"),
    "validation squared error": ("validation_squared_error_sum", "validation_target_count"),
}


def heading(trials: pd.DataFrame) -> str:
    """Returns the question, with the axes of the sweep by name."""
    names = [frames.short(name) for name in frames.varying(trials)]
    if not names:
        return "How accurate is the network, and what becomes of wrong labels?"
    axes = " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
    what = "accuracy and memorizing" if trials["data_noise_fraction"].max() > 0 else "accuracy"
    return f"How {'do' if ' and ' in what else 'does'} {what} change with {axes}?"


def summarize(trials: pd.DataFrame, x: str | None = None) -> pd.DataFrame:
    """Returns a row per quantity and setting: mean share over seeds with its bootstrap interval over seeds, at 95 %.

    trials: rows of the table `trials`, or of `frames.read`, where wanted trials that are not stored have a row too.
    x: the column along which curves run; default: the noise fraction where it varies, else the numeric field with most
    values.
    Returns quantity, x, classes, one column a varying field, estimate, low, high, seeds, missing.
    A trial that failed, diverged or is not stored counts as missing; so does a share of nothing, such as memorized
    labels where no label was changed. A quantity without a value in any trial has no row.
    """
    trials = frames.rounded_fields(trials)
    x = x or _axis(trials)
    fields = [column for column in dict.fromkeys([x, *frames.varying(trials)])]
    good = frames.usable(trials)
    pieces = []
    for quantity, (part, whole) in QUANTITIES.items():
        shares = frames.share(trials[part], trials[whole]).where(good)
        is_defined = ~(good & (trials[whole].fillna(0) == 0))  # without changed labels, nothing is missing
        if shares.notna().any():
            rows = trials[is_defined].assign(share=shares[is_defined])
            summary = statistics.over_seeds(rows, fields, "share")
            pieces.append(summary.assign(quantity=quantity))
    columns = ["quantity", "x", "classes", *fields, "estimate", "low", "high", "seeds", "missing"]
    if not pieces:
        return pd.DataFrame(columns=columns)
    classes = trials["class_count"].dropna().max()
    return pd.concat(pieces, ignore_index=True).assign(x=x, classes=classes)[columns]


def draw(summary: pd.DataFrame, ax: Axes, quantity: str = "test accuracy") -> Axes:
    """Draws one quantity against x, scaled by its values; a curve for each combination of other varying fields."""
    chosen = summary[summary["quantity"] == quantity]
    if chosen["estimate"].isna().all():
        return figures.empty(ax, f"no finished trial has a value for {quantity}")
    x = chosen["x"].iloc[0]
    others = [column for column in frames.varying(chosen) if column != x]
    curves = list(chosen.groupby(others, sort=True)) if others else [((), chosen)]
    ordered = len(others) == 1 and is_numeric_dtype(chosen[others[0]])
    for (values, points), look in zip(curves, figures.looks(len(curves), ordered=ordered), strict=True):
        named = frames.label(dict(zip(others, values, strict=True)), chosen)
        label = named.removeprefix(frames.short(others[0])).strip() if ordered else named
        figures.curve(ax, points, x, label=label or None, **look)
    figures.scale_by(chosen[x], ax)
    if "accuracy" in quantity:
        chance = 1 / chosen["classes"].iloc[0]
        figures.reference(ax, [chosen[x].min(), chosen[x].max()], [chance, chance], "chance")
    ax.set(xlabel=frames.short(x), ylabel=quantity, ylim=(0, _top(quantity, ax.get_ylim()[1])))
    figures.legend(ax, frames.short(others[0]) if ordered else None)
    return ax


def _top(quantity: str, top: float) -> float:
    """Returns the upper end of the axis; a share is at most 1.  top: of the values."""
    return top if "error" in quantity else min(1.0, top) + 0.02


def _axis(trials: pd.DataFrame) -> str:
    """Returns the noise fraction where it varies, else the numeric field with most values."""
    numeric = [column for column in frames.varying(trials) if is_numeric_dtype(trials[column])]
    return X if X in numeric or not numeric else max(numeric, key=lambda column: trials[column].nunique())


FIGURES = tuple(
    figures.Figure(
        name,
        title,
        partial(draw, quantity=quantity),
        f"{note} Mean over seeds; bars: 95 % bootstrap interval over seeds.",
        rows=figures.of_quantity(quantity),
        only={"data_test_examples": 0} if quantity == "validation accuracy" else {},
    )
    for name, title, quantity, note in (
        (
            "test-accuracy",
            "Test accuracy",
            "test accuracy",
            "On test examples, which are never corrupted and are used once, at the end.",
        ),
        (
            "validation-accuracy",
            "Validation accuracy",
            "validation accuracy",
            "On validation examples, which are never corrupted, at the end: the sweep has no test examples.",
        ),
        (
            "memorized-share",
            "Wrong labels memorized",
            "memorized share",
            "Share of the labels that noise changed which the network predicts as it was given them.",
        ),
        (
            "recovered-share",
            "True labels recovered",
            "recovered share",
            "Share of the labels that noise changed for which the network predicts the true label, never shown to it.",
        ),
        ("train-accuracy", "Training accuracy", "train accuracy", "On the labels as given, noise included."),
        (
            "validation-squared-error",
            "Validation squared error",
            "validation squared error",
            "Mean squared error of a target, of tasks with numbers as targets, at the end.",
        ),
    )
)
