"""Which regularizers prevent memorizing without cost to what is learned? After Arpit et al. 2017, figure 10, on MLPs.

A reconstruction: the paper used convolutional networks on CIFAR-10 and prints no accuracies; only its ranges are kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from memsweep.analysis.core import figures, frames, statistics

QUERY = frames.TRIALS
MEMORIZED, VALIDATION, TEST = "random labels fitted", "clean validation accuracy", "clean test accuracy"
NONE = "none"
CAPS = (0.3, 0.5, 0.7)
"""Shares of random labels that may be fitted, at which regularizers are compared."""


def named(trials: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows with regularizer ('none', or its fields that are not 0) and strength (its first field's
    value)."""
    fields = [name for name in frames.varying(trials) if name.startswith("regularization_")]
    if not fields:
        return trials.assign(regularizer=NONE, strength=0.0)
    setting = trials.groupby(fields, dropna=False, sort=False).ngroup()  # in the order of the records
    records = trials[fields].drop_duplicates().to_dict("records")
    names = [_regularizer(record, fields) for record in records]
    strengths = [next((value for value in record.values() if value), 0.0) for record in records]
    return trials.assign(regularizer=[names[i] for i in setting], strength=[strengths[i] for i in setting])


def summarize(trials: pd.DataFrame) -> pd.DataFrame:
    """Returns a row per quantity, regularizer and strength: mean over seeds, bootstrap interval over seeds, at 95 %.

    random labels fitted: training accuracy at the end where every label was redrawn (the largest noise fraction of the
    sweep).  clean validation and test accuracy: at the end where no label was.
    Returns quantity, regularizer, strength (of `named`), estimate, low, high, seeds, missing.
    """
    with_names = named(trials)
    noise, good = with_names["data_noise_fraction"], frames.usable(with_names)
    sides = {
        MEMORIZED: (noise == noise.max()) & (noise > 0),
        VALIDATION: noise == 0,
        TEST: noise == 0,
    }
    pieces = []
    for quantity, side in sides.items():
        kind = {MEMORIZED: "train", VALIDATION: "validation", TEST: "test"}[quantity]
        shares = frames.share(with_names[f"{kind}_correct_count"], with_names[f"{kind}_count"]).where(good)
        rows = with_names[side].assign(share=shares[side])
        pieces.append(statistics.over_seeds(rows, ["regularizer", "strength"], "share").assign(quantity=quantity))
    columns = ["quantity", "regularizer", "strength", "estimate", "low", "high", "seeds", "missing"]
    return pd.concat(pieces, ignore_index=True)[columns]


def choose(summary: pd.DataFrame, caps: tuple[float, ...] = CAPS) -> pd.DataFrame:
    """Returns each regularizer's best strength that keeps memorization below a cap, chosen on validation data.

    Returns cap, regularizer, strength, memorized, validation, estimate, low, high, seeds, missing (of the test
    accuracy) and retained: the chosen strength's validation accuracy over the regularizer's best one without a cap.
    No regularization counts as strength 0 of each. A regularizer without a strength below a cap has a row without
    strength.
    """
    rows = []
    for cap in caps:
        for name, points in _by_regularizer(summary):
            below = points[points["memorized"] <= cap].nlargest(1, "validation")
            row = {"cap": cap, "regularizer": name}
            for best in below.to_dict("records"):
                row |= {part: best[part] for part in ("strength", "memorized", "validation", "seeds", "missing")}
                row |= {"estimate": best["test"], "low": best["test_low"], "high": best["test_high"]}
                row["retained"] = best["validation"] / points["validation"].max()
            rows.append(row)
    return pd.DataFrame(rows, columns=list(_CHOSEN))


def draw(summary: pd.DataFrame, ax: Axes) -> Axes:
    """Draws clean test accuracy against random labels fitted, a curve a regularizer along its strengths."""
    curves = _by_regularizer(summary)
    points = _points(summary)
    if (points["test"] + points["memorized"]).isna().all():
        return figures.empty(ax, "no finished trials on both clean and random labels")
    for (name, along), look in zip(curves, figures.looks(len(curves), ordered=False), strict=True):
        x, y = along["memorized"], along["test"]
        ax.errorbar(x, y, _bars(along, "test"), _bars(along, "memorized"), label=name, elinewidth=0.6, **look)
    none = points[points["regularizer"] == NONE]
    if len(none):
        figures.hollow(ax, none["memorized"], none["test"], "no regularization", color="black")
    ax.set(xlabel="random labels fitted (share)", ylabel="clean test accuracy", xlim=(0, 1.02))
    figures.legend(ax)
    return ax


def draw_choice(summary: pd.DataFrame, ax: Axes) -> Axes:
    """Draws the clean test accuracy of each regularizer against the largest allowed share of random labels fitted."""
    chosen = choose(summary, tuple(np.round(np.arange(0.1, 1.01, 0.1), 1)))
    if chosen.empty or chosen["estimate"].isna().all():
        return figures.empty(ax, "no finished trials on both clean and random labels")
    curves = list(chosen.groupby("regularizer", sort=True))
    for (name, points), look in zip(curves, figures.looks(len(curves), ordered=False), strict=True):
        figures.curve(ax, points, "cap", label=name, **look)
    ax.set(xlabel="random labels fitted, at most (share)", ylabel="clean test accuracy", xlim=(0, 1.05))
    figures.legend(ax)
    return ax


_CHOSEN = (
    "cap", "regularizer", "strength", "memorized", "validation", "estimate", "low", "high", "seeds", "missing",
    "retained",
)  # fmt: skip


def _regularizer(row: Mapping[Any, float], fields: list[str]) -> str:
    return " + ".join(frames.short(name) for name in fields if row[name]) or NONE


def _points(summary: pd.DataFrame) -> pd.DataFrame:
    """Returns a row a regularizer and strength: memorized, validation and test, each with _low and _high.

    seeds and missing are those of the test accuracy.
    """
    keys = ["regularizer", "strength"]
    points = summary[summary["quantity"] == TEST][[*keys, "seeds", "missing"]]
    for quantity, name in ((MEMORIZED, "memorized"), (VALIDATION, "validation"), (TEST, "test")):
        named = {"estimate": name, "low": f"{name}_low", "high": f"{name}_high"}
        renamed = summary[summary["quantity"] == quantity].rename(columns=named)
        points = points.merge(renamed[[*keys, *named.values()]], on=keys, how="outer")
    return points.sort_values(keys, ignore_index=True)


def _by_regularizer(summary: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Returns each regularizer's strengths in their order, beginning with no regularization."""
    points = _points(summary)
    is_none = points["regularizer"] == NONE
    names = sorted(set(points["regularizer"]) - {NONE})
    return [(name, points[is_none | (points["regularizer"] == name)].sort_values("strength")) for name in names]


def _bars(points: pd.DataFrame, name: str) -> np.ndarray:
    """Returns [2, points]: from the estimate down to low and up to high."""
    ends = [points[name] - points[f"{name}_low"], points[f"{name}_high"] - points[name]]
    return np.asarray(np.nan_to_num(np.maximum(np.stack(ends), 0)))


MEASURED = "both axes are measured and regularizers are traced by their strengths"
FIGURES = (
    figures.Figure(
        "trade-off",
        "Memorization prevented, accuracy kept",
        draw,
        "Along each curve the strength grows from none. To the left: random labels are fitted less; below: clean "
        "accuracy is lost. At the very left, near the share of the commonest label, nothing is learned at all. After "
        "Arpit et al. (2017), figure 10, on MLPs instead of convolutional networks; their strengths end at 0.9 "
        "(dropouts), 5 (input noise), 0.3 (hidden noise) and 1 (weight decay). Mean over seeds; bars: 95 % bootstrap "
        "intervals over seeds.",
        fixed=MEASURED,
    ),
    figures.Figure(
        "kept-below-cap",
        "Accuracy kept while memorization is capped",
        draw_choice,
        "For each cap the strength is chosen by clean validation accuracy; drawn is its accuracy on clean test data, "
        "which took no part in the choice. Bars: 95 % bootstrap intervals over seeds, the choice held.",
        rows=choose,
        fixed="the strength of each regularizer is chosen for each cap along x",
    ),
)
