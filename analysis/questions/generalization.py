"""How do accuracy, loss and the fate of wrong labels change along the axes of a sweep?

`summarize` and `draw` work for every sweep: the numeric field with most values runs along x, others make curves and
panels, and a view may choose otherwise.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from memsweep.analysis.core import figures, frames, panels, statistics
from memsweep.analysis.core.arrangement import DEFAULT, View, is_numeric

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
    "test loss": ("test_loss_sum_nats", "test_count"),
    "validation loss": ("validation_loss_sum_nats", "validation_count"),
    "train loss": ("train_loss_sum_nats", "train_count"),
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
    x: the column along which curves run; default: the numeric field with most values, of several the noise fraction.
    Returns quantity, x, classes, one column a varying field, estimate, low, high, seeds, missing, and values, pairs of
    a seed and its share. Losses are cross-entropies, in nats an example; other losses have no rows.
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
        if "loss" in quantity:
            is_defined &= frames.has_nats(trials, quantity.partition(" ")[0])
        if shares[is_defined].notna().any():
            rows = trials[is_defined].assign(share=shares[is_defined])
            summary = statistics.over_seeds(rows, fields, "share", has_values=True)
            pieces.append(summary.assign(quantity=quantity))
    columns = ["quantity", "x", "classes", *fields, "estimate", "low", "high", "seeds", "missing", "values"]
    if not pieces:
        return pd.DataFrame(columns=columns)
    classes = trials["class_count"].dropna().max()
    return pd.concat(pieces, ignore_index=True).assign(x=x, classes=classes)[columns]


def draw(summary: pd.DataFrame, ax: Axes, quantity: str = "test accuracy", view: View = DEFAULT) -> Axes:
    """Draws one quantity as `panels.draw` does: against x, other varying fields making curves and panels.

    view: other fields along x, of curves and of panels.  Raises ViewError.
    """
    chosen = summary[summary["quantity"] == quantity]
    if chosen["estimate"].isna().all():
        return figures.empty(ax, f"no finished trial has a value for {quantity}")
    is_loss, is_share = "loss" in quantity, "accuracy" in quantity or "share" in quantity
    classes = float(chosen["classes"].iloc[0])
    top = chosen[["estimate", "high"]].max().max()
    plane = panels.Plane(
        quantity if not is_loss else f"{quantity} (nats)",
        chosen["x"].iloc[0],
        axis={"ylim": (0, min(1.0, top + 0.05) + 0.02 if is_share else None)},
        chance=None if not classes > 1 else 1 / classes if is_share else float(np.log(classes)) if is_loss else None,
        is_power=is_loss,
    )
    return panels.draw(chosen, ax, axes(chosen), plane, view)


def axes(summary: pd.DataFrame) -> list[str]:
    """Returns the columns of the fields of a summary; a view may choose among them."""
    return [name for name in frames.fields_of(summary) if name != "seed"]


def _axis(trials: pd.DataFrame) -> str:
    """Returns the numeric field with most values, of several the noise fraction; without any, the noise fraction."""
    numeric = [column for column in frames.varying(trials) if is_numeric(trials[column])]
    return max(numeric, key=lambda column: (trials[column].nunique(), column == X), default=X)


_CHANCE = {
    "accuracy": "Chance: one over the number of classes. ",
    "share": "Chance: one over the number of classes. ",
    "loss": "Chance: the loss of giving all classes the same probability, ln K. ",
    "error": "",
}

FIGURES = tuple(
    figures.Figure(
        name,
        title,
        partial(draw, quantity=quantity),
        f"{note} {_CHANCE[quantity.rpartition(' ')[2]]}Mean over seeds; bars: 95 % bootstrap interval over seeds.",
        rows=frames.of_quantity(quantity),
        only={"data_test_examples": 0} if quantity in ("validation accuracy", "validation loss") else {},
        axes=axes,
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
        ("test-loss", "Test loss", "test loss", "Mean of an example's loss on test data, whose labels are true."),
        (
            "validation-loss",
            "Validation loss",
            "validation loss",
            "Mean of an example's loss on validation data, whose labels are true: the sweep has no test examples.",
        ),
        ("train-loss", "Training loss", "train loss", "Mean of an example's loss on the labels as given."),
    )
)
