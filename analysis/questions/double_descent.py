"""Does test error rise to a peak at the interpolation threshold, and fall beyond it? After Nakkiran et al. 2019.

Train and test error by width, for each noise, weight decay and number of examples; and over the steps of training.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from memsweep.analysis.core import figures, frames, statistics
from memsweep.spec.numerals import texts

QUERY = """select w.trial_id, w.setting_id, w.seed, t.status, t.train_correct_count, t.train_count,
t.validation_correct_count, t.validation_count, t.test_correct_count, t.test_count, s.step,
s.train_correct_count as train_correct_then, s.validation_correct_count as validation_correct_then
from wanted w left join trials t using (trial_id) left join steps s using (trial_id)
where w.sweep = '{sweep}' order by w.position, s.step"""
"""All measurements of a sweep's trials beside the counts at their ends; a trial without measurements is one row."""

WIDTH, NOISE, DECAY, EXAMPLES = "model_width", "data_noise_fraction", "regularization_weight_decay", "data_examples"
CHANGED = (NOISE, DECAY, EXAMPLES)
"""Fields that are changed one at a time beside the width."""
TRAIN, VALIDATION, TEST = "train error", "validation error", "test error"
STEPS = "steps"
INTERPOLATED = 0.01
"""Train error, mean over seeds, up to which a training set counts as fitted."""
TIMES = 24
"""Most times shown of a curve over steps."""


def errors(trials: pd.DataFrame) -> pd.DataFrame:
    """Returns the trials, one row each, with train error, validation error and test error at their ends.

    trials: with the columns of the table `trials`, or rows of QUERY.  A trial without a result has NaN.
    """
    rows, good = trials.drop_duplicates("trial_id"), frames.usable(trials.drop_duplicates("trial_id"))
    parts = {TRAIN: "train", VALIDATION: "validation", TEST: "test"}
    shares = {name: frames.share(rows[f"{part}_correct_count"], rows[f"{part}_count"]) for name, part in parts.items()}
    return rows.assign(**{name: (1 - share).where(good) for name, share in shares.items()})


def middle(rows: pd.DataFrame) -> dict[str, Any]:
    """Returns the value of each changed field that most trials have; of equally many, the larger of noise and examples
    and the smaller weight decay."""
    trials = rows.drop_duplicates("trial_id")
    values = {}
    for field in CHANGED:
        counts = trials[field].value_counts()
        most = counts[counts == counts.max()].index
        values[field] = most.min() if field == DECAY else most.max()
    return values


def beside(rows: pd.DataFrame, field: str = "") -> pd.DataFrame:
    """Returns the rows in which every changed field but this one has its middle value."""
    others = {name: value for name, value in middle(rows).items() if name != field}
    return frames.having(rows, others)


def threshold(summary: pd.DataFrame) -> float:
    """Returns the smallest x from which on the mean train error is at most INTERPOLATED; NaN where it never is.

    summary: of one curve, with quantity, x and estimate.
    """
    train = summary[(summary["quantity"] == TRAIN) & summary["estimate"].notna()].sort_values("x")
    above = np.flatnonzero((train["estimate"] > INTERPOLATED).to_numpy())
    first = above[-1] + 1 if len(above) else 0
    return float(train["x"].iloc[first]) if first < len(train) else np.nan


def summarize(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns errors along widths, a curve for each value of each changed field, and over steps for three widths.

    rows: of QUERY, with the fields of their trials.  Mean over seeds with its bootstrap interval over seeds, at 95 %.
    The three widths: half of the threshold or the nearest below it, the threshold itself, and the largest.
    Returns along (the changed field, or steps), quantity, group (value of the field, or width), x, estimate, low, high,
    seeds, missing, threshold (of the curve, in units of x; NaN: never fitted).
    """
    columns = ["along", "quantity", "group", "x", "estimate", "low", "high", "seeds", "missing", "threshold"]
    if rows.empty:
        return pd.DataFrame(columns=columns)
    rows = frames.rounded_fields(rows)
    trials = errors(rows)
    tested = TEST if trials[TEST].notna().any() else VALIDATION
    pieces = []
    for field in CHANGED:
        chosen = beside(trials, field)
        if field == NOISE or chosen[field].nunique() > 1:
            pieces += [_curves(chosen, field, field, WIDTH, quantity) for quantity in (TRAIN, tested)]
    over = _over_steps(rows, pd.concat(pieces, ignore_index=True))
    pieces += [_curves(over, STEPS, WIDTH, "step", quantity) for quantity in (TRAIN, VALIDATION) if len(over)]
    summary = pd.concat(pieces, ignore_index=True)
    limits = [
        {"along": along, "group": group, "threshold": threshold(curve)}
        for (along, group), curve in summary.groupby(["along", "group"])
    ]
    return summary.merge(pd.DataFrame(limits), on=["along", "group"])[columns]


def _curves(rows: pd.DataFrame, along: str, group: str, x: str, quantity: str) -> pd.DataFrame:
    summary = statistics.over_seeds(rows, [group, x], quantity)
    return summary.rename(columns={group: "group", x: "x"}).assign(along=along, quantity=quantity)


def _over_steps(rows: pd.DataFrame, by_width: pd.DataFrame) -> pd.DataFrame:
    """Returns errors at some steps of three widths in the middle block, a row a trial and step."""
    chosen = beside(rows)
    chosen = chosen[chosen["step"].notna() & frames.usable(chosen)]
    if chosen.empty:
        return chosen
    widths = np.sort(chosen[WIDTH].unique())
    curve = by_width[(by_width["along"] == NOISE) & (by_width["group"] == middle(rows)[NOISE])]
    limit = threshold(curve)
    below = widths[widths <= limit / 2] if limit == limit else widths
    shown = {widths[-1], *([limit] if limit == limit else []), *(below[-1:] if len(below) else [])}
    steps = np.sort(chosen["step"].unique())
    places = np.unique(np.geomspace(1, len(steps), TIMES).round().astype(int)) - 1
    chosen = chosen[chosen[WIDTH].isin(shown) & chosen["step"].isin(steps[places])]
    return chosen.assign(
        **{
            TRAIN: 1 - frames.share(chosen["train_correct_then"], chosen["train_count"]),
            VALIDATION: 1 - frames.share(chosen["validation_correct_then"], chosen["validation_count"]),
        }
    )


def draw(summary: pd.DataFrame, ax: Axes, along: str) -> Axes:
    """Draws train and test error on one axis, a colour for each group, with a line at each group's threshold."""
    chosen = summary[summary["along"] == along]
    if chosen["estimate"].isna().all():
        return figures.empty(ax, "no finished trial with these errors")
    tested = next(name for name in (TEST, VALIDATION) if name in set(chosen["quantity"]))
    groups = list(chosen.groupby("group", sort=True))
    named = texts([group for group, _ in groups])
    for (_, curve), name, look in zip(groups, named, figures.looks(len(groups), ordered=False), strict=True):
        for quantity, dashes, label in ((tested, "-", name), (TRAIN, "--", f"_{name}, {TRAIN}")):
            figures.curve(ax, curve[curve["quantity"] == quantity], "x", label=label, linestyle=dashes, **look)
    top = min(1.0, 1.05 * float(chosen["high"].fillna(chosen["estimate"]).max()))
    is_marked = False
    for (_, curve), look in zip(groups, figures.looks(len(groups), ordered=False), strict=True):
        limit = curve["threshold"].iloc[0]
        if limit == limit:
            label = "_threshold" if is_marked else "interpolation threshold"
            ax.plot([limit, limit], [0, top], ":", color=look["color"], linewidth=1.2, label=label)
            is_marked = True
    for quantity, dashes in ((tested, "-"), (TRAIN, "--")):
        ax.plot([np.nan], [np.nan], dashes, color="0.3", label=quantity)  # for the legend alone
    ax.set(xlabel="steps" if along == STEPS else "hidden units", ylabel="error", ylim=(-0.02 * top, top), xscale="log")
    if along != STEPS:
        figures.plain_ticks(ax.xaxis)
    figures.legend(ax, "hidden units" if along == STEPS else frames.short(along))
    return ax


def _rows(summary: pd.DataFrame, along: str) -> pd.DataFrame:
    name = "hidden units" if along == STEPS else frames.short(along)
    names = {"group": name, "x": STEPS if along == STEPS else "hidden units"}
    return summary[summary["along"] == along].drop(columns="along").rename(columns=names)


_NOTE = (
    f"Solid: error on true labels of examples that took no part in training. Dashed: error on the training labels as "
    f"given. Dotted: the interpolation threshold, from which on the mean train error is at most {INTERPOLATED:g}. Mean "
    "over seeds; bars: 95 % bootstrap interval over seeds."
)
_FIGURES: Mapping[str, tuple[str, str, str]] = {
    NOISE: ("noise", "Train and test error by width and noise", "At the end of training."),
    DECAY: ("decay", "Train and test error by width and weight decay", "At the end of training, with wrong labels."),
    EXAMPLES: ("examples", "Train and test error by width and examples", "At the end of training, with wrong labels."),
    STEPS: (
        "steps",
        "Train and validation error over training",
        "With wrong labels, at three widths: at most half of the threshold, the threshold, and the largest.",
    ),
}
FIGURES = tuple(
    figures.Figure(
        *(name, title, partial(draw, along=along), f"{note} {_NOTE}"),
        rows=partial(_rows, along=along),
        fixed="the interpolation threshold is a width, and is marked for each curve",
    )
    for along, (name, title, note) in _FIGURES.items()
)
