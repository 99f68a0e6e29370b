"""How much weight decay keeps a network from memorizing wrong labels, and what becomes of its errors?

A map of memorized share over noise fraction and weight decay, its level line, and errors at three weight decays.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from memsweep.analysis.core import figures, frames, statistics
from memsweep.spec.numerals import texts

QUERY = frames.TRIALS
NOISE, DECAY = "data_noise_fraction", "regularization_weight_decay"
LEVEL = 0.5
"""Memorized share at the level line."""
MEMORIZED, TRAIN, VALIDATION, TEST = "memorized share", "train error", "validation error", "test error"
WRONG, CROSSING = "wrong labels", "weight decay at the level"


def select(trials: pd.DataFrame) -> pd.DataFrame:
    """Returns the trials in which all fields but noise fraction and weight decay have the values of the first trial."""
    others = [name for name in frames.varying(trials) if name not in (NOISE, DECAY)]
    return frames.having(trials, {name: trials[name].iloc[0] for name in others})


def summarize(trials: pd.DataFrame) -> pd.DataFrame:
    """Returns a row per quantity and setting: mean over seeds with its bootstrap interval over seeds, at 95 %.

    trials: rows of the table `trials`, or of `frames.read`, where wanted trials that are not stored have a row too.
    memorized share: of the training examples with a wrong label, those for which it is predicted.  train error: on the
    labels as given.  validation error, test error: on true labels.  wrong labels: share of the training labels.
    weight decay at the level: a row per noise fraction, without weight decay: the geometric mean of `crossings`.
    Returns quantity, data_noise_fraction, regularization_weight_decay, estimate, low, high, seeds, missing, and fixed:
    the values of other varying fields, in words.
    A trial that failed, diverged or is not stored counts as missing, as does a seed without a crossing. A quantity
    without a value in any trial has no row.
    """
    rounded = frames.rounded_fields(trials)
    chosen = select(rounded)
    others = {name: chosen[name].iloc[0] for name in frames.varying(rounded) if name not in (NOISE, DECAY)}
    fixed = f"at {frames.label(others, rounded)}" if others else ""
    good = frames.usable(chosen)
    values = {
        MEMORIZED: frames.share(chosen["memorized_count"], chosen["label_changed_count"]),
        WRONG: frames.share(chosen["label_changed_count"], chosen["train_count"]),
        **{
            f"{kind} error": 1 - frames.share(chosen[f"{kind}_correct_count"], chosen[f"{kind}_count"])
            for kind in _SETS
        },
    }
    rows = chosen.assign(**{name: value.where(good) for name, value in values.items()})
    noised = rows[rows[NOISE] > 0]
    pieces = [
        statistics.over_seeds(noised if name == MEMORIZED else rows, [NOISE, DECAY], name).assign(quantity=name)
        for name in values
        if rows[name].notna().any()
    ]
    crossed = crossings(noised)
    if len(crossed) and crossed["log"].notna().any():
        summary = statistics.over_seeds(crossed, [NOISE], "log")
        decays = {end: 10 ** summary[end] for end in ("estimate", "low", "high")}
        pieces.append(summary.assign(**decays, quantity=CROSSING))
    if not pieces:
        return pd.DataFrame(columns=[*_COLUMNS])
    return pd.concat(pieces, ignore_index=True).assign(fixed=fixed)[[*_COLUMNS]]


def crossings(trials: pd.DataFrame) -> pd.DataFrame:
    """Returns, per noise fraction and seed, the weight decay at which the memorized share falls to LEVEL.

    trials: with the column `memorized share`, NaN where a trial has none.
    Between neighbouring weight decays above 0, the share is taken as linear in the decay's logarithm. Of several
    crossings the one at the weakest decay counts.
    Returns data_noise_fraction, seed, log (log10 of the decay; NaN if no two neighbours lie on both sides of LEVEL).
    """
    return statistics.by_group(trials[trials[DECAY] > 0], [NOISE, "seed"], _crossing)


def strengths(summary: pd.DataFrame) -> dict[float, str]:
    """Returns weight decay -> its role: weakest, strongest, or best: of least validation error, mean over noise.

    A weight decay without validation error at some noise fraction is never best.
    """
    errors = summary[summary["quantity"] == TRAIN].dropna(subset=["estimate"])
    validation = summary[summary["quantity"] == VALIDATION].pivot(index=NOISE, columns=DECAY, values="estimate")
    means = validation.mean(skipna=False).dropna()
    named = {errors[DECAY].min(): "weakest", errors[DECAY].max(): "strongest"} if len(errors) else {}
    best = {means.idxmin(): "best"} if len(means) else {}
    return dict(sorted({**named, **best}.items()))


def of_strengths(summary: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows of train error, test error and wrong labels at these strengths."""
    is_shown = summary["quantity"].isin((TRAIN, VALIDATION, TEST, WRONG)) & summary[DECAY].isin([*strengths(summary)])
    return summary[is_shown]


def draw(summary: pd.DataFrame, ax: Axes) -> Axes:
    """Draws a square per setting, coloured by memorized share, and the level line with its intervals.

    Weight decay 0 has no place on the logarithmic axis and is not drawn.
    """
    squares = summary[(summary["quantity"] == MEMORIZED) & (summary[DECAY] > 0)]
    if squares["estimate"].isna().all():
        return figures.empty(ax, "no finished trial with wrong labels")
    shares = squares.pivot(index=DECAY, columns=NOISE, values="estimate")
    noise, decays = _edges(shares.columns.to_numpy(float)), 10 ** _edges(np.log10(shares.index.to_numpy(float)))
    ax.set(yscale="log", xlabel="noise fraction", ylabel="weight decay")
    mesh = ax.pcolormesh(noise, decays, shares.to_numpy(float), cmap="viridis", vmin=0, vmax=1, label=f"_{MEMORIZED}")
    ax.figure.colorbar(mesh, ax=ax, label="share of wrong labels memorized", ticks=[0, 0.25, 0.5, 0.75, 1])
    line = summary[summary["quantity"] == CROSSING]
    for column, look, label in _LINES:
        ax.plot(line[NOISE], line[column], look, color="black", label=label)
    points = pd.concat([squares, line.assign(**{DECAY: line["estimate"]})])
    partial = points[(points["missing"] > 0) & points["estimate"].notna()]
    if len(partial):
        figures.hollow(ax, partial[NOISE], partial[DECAY], "some seeds missing", color="black")
    ax.grid(False)
    figures.legend(ax)
    figures.title(ax, squares["fixed"].iloc[0])
    return ax


def draw_errors(summary: pd.DataFrame, ax: Axes) -> Axes:
    """Draws train and test error (validation error in a sweep without test examples) against the noise fraction.

    Colours are weight decays: the weakest, the best on validation data, the strongest.
    """
    roles = strengths(summary)
    if not roles:
        return figures.empty(ax, "no finished trial")
    tested = TEST if (summary["quantity"] == TEST).any() else VALIDATION
    named = dict(zip(roles, texts([*roles]), strict=True))
    for (decay, role), look in zip(roles.items(), figures.looks(len(roles), ordered=False), strict=True):
        name = f"{named[decay]} ({role})"
        for quantity, dashes, label in ((tested, "-", name), (TRAIN, "--", f"_{name}, {TRAIN}")):
            points = summary[(summary["quantity"] == quantity) & (summary[DECAY] == decay)]
            figures.curve(ax, points, NOISE, label=label, linestyle=dashes, **look)
    for quantity, dashes in ((tested, "-"), (TRAIN, "--")):
        ax.plot([np.nan], [np.nan], dashes, color="0.3", label=quantity)  # for the legend alone
    wrong = summary[summary["quantity"] == WRONG].groupby(NOISE)["estimate"].mean()
    figures.reference(ax, wrong.index, wrong, "share of wrong labels", ":")
    ax.set(xlabel="noise fraction", ylabel="error", ylim=(-0.02, 1))
    figures.legend(ax, "weight decay")
    figures.title(ax, summary["fixed"].iloc[0])
    return ax


def _crossing(rows: pd.DataFrame) -> dict[str, Any]:
    along = rows.sort_values(DECAY)
    logs, above = np.log10(along[DECAY].to_numpy(float)), along[MEMORIZED].to_numpy(float) - LEVEL
    falls = np.flatnonzero((above[:-1] >= 0) & (above[1:] < 0))
    if not len(falls):
        return {"log": np.nan}
    i = falls[0]
    return {"log": logs[i] + (logs[i + 1] - logs[i]) * above[i] / (above[i] - above[i + 1])}


def _edges(middles: np.ndarray) -> np.ndarray:
    """Returns the edges [n + 1] of squares around sorted places [n], halfway between neighbours."""
    steps = np.diff(middles) if len(middles) > 1 else np.ones(1)
    return np.concatenate(
        [middles[:1] - steps[0] / 2, middles[:-1] + steps[: len(middles) - 1] / 2, middles[-1:] + steps[-1] / 2]
    )


_SETS = ("train", "validation", "test")
_LINES = (
    # column of the level line, its look and label
    ("estimate", "o-", f"{MEMORIZED} = {LEVEL:g}"),
    ("low", ":", "95 % interval over seeds"),
    ("high", ":", "_95 % interval over seeds"),
)
_COLUMNS = ("quantity", NOISE, DECAY, "estimate", "low", "high", "seeds", "missing", "fixed")
FIGURES = (
    figures.Figure(
        "memorized-share",
        "Where wrong labels are memorized",
        draw,
        "Colour: of the training examples with a wrong label, the share for which the network predicts that label; "
        "mean over seeds. Below the line the network memorizes the noise, above it not: there it either predicts the "
        "true labels or, where its errors are near those of guessing, has learned nothing. Line: the weight decay at "
        "which the share falls to 0.5, found for each seed between neighbouring decays; geometric mean over seeds; "
        "dotted: its 95 % bootstrap interval over seeds.",
        fixed="the weight decay of the level is found for each seed and noise fraction",
    ),
    figures.Figure(
        "errors",
        "Errors at three weight decays",
        draw_errors,
        "Solid: error on test examples, whose labels are true. Dashed: error on the training labels as given. A "
        "network that memorizes has a train error of 0; a network that has learned the true labels errs on the wrong "
        "ones alone (dotted). The best weight decay has the least validation error, mean over noise fractions; test "
        "examples took no part in its choice. Mean over seeds; bars: 95 % bootstrap intervals over seeds, for the "
        "same choice.",
        rows=of_strengths,
        fixed="the best weight decay is chosen over all noise fractions",
    ),
)
