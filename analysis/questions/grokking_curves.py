"""What does a training look like in which a network groks: accuracies, and wrong labels memorized, step by step?

Each seed is a faint line, since seeds jump at different steps and their mean does not.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from memsweep.analysis.core import figures, frames, series
from memsweep.analysis.questions.grokking import DECAY, GENERAL, NOISE, SHARE, WIDTH, main_value, training_shares
from memsweep.spec.numerals import texts

QUERY = frames.CURVES
POINTS = 60
"""Most steps shown of a curve, evenly chosen on a logarithmic scale."""
TRAIN, VALIDATION, MEMORIZED = "train accuracy", "validation accuracy", "wrong labels memorized"
SHARES = {
    TRAIN: ("train_correct_count", "train_count"),
    VALIDATION: ("validation_correct_count", "validation_count"),
    MEMORIZED: ("memorized_count", "label_changed_count"),
}
MEAN = -1
"""In place of a seed: the mean over seeds."""


def select(steps: pd.DataFrame) -> pd.DataFrame:
    """Returns rows of the task modular at the width and training share of most trials.

    Of several widths the largest counts, of several shares the middle one. Without wrong labels the weight decays are
    the weakest and the one at which most networks generalize; with wrong labels all weight decays are shown.
    """
    rows = steps[steps["data_task"] == "modular"]
    rows = rows.assign(**{SHARE: training_shares(rows)})
    pieces = [_main(noisy) for _, noisy in rows.groupby(rows[NOISE] > 0)]
    return pd.concat(pieces, ignore_index=True) if pieces else rows


def summarize(steps: pd.DataFrame) -> pd.DataFrame:
    """Returns a row per quantity, setting, seed and step; the mean over seeds is that of seed MEAN.

    steps: rows of the table `steps` with the fields of their trials (`frames.read`), filtered by `select`. A trial
    that ended before its budget has no value after its end; a trial without a result has no rows.
    Returns quantity, regularization_weight_decay, data_noise_fraction, model_width, share, seed, step, estimate, seeds.
    """
    measured = steps[frames.usable(steps)].dropna(subset="step")
    if measured.empty:
        return pd.DataFrame(columns=[*_COLUMNS])
    measured = measured.assign(**{name: frames.share(measured[a], measured[b]) for name, (a, b) in SHARES.items()})
    times = _spaced(np.sort(measured["step"].unique().astype(float)))
    setting = [DECAY, NOISE, WIDTH, SHARE, "seed"]
    curves = pd.concat(
        [
            series.at_times(trial, "step", times, [*SHARES]).assign(**{name: trial[name].iloc[0] for name in setting})
            for _, trial in measured.groupby("trial_id", sort=False)
        ],
        ignore_index=True,
    )
    long = curves.melt([*setting, "step"], [*SHARES], "quantity", "estimate").dropna(subset="estimate")
    by_step = ["quantity", *setting[:-1], "step"]
    means = long.groupby(by_step, as_index=False).agg(estimate=("estimate", "mean"), seeds=("seed", "nunique"))
    return pd.concat([means.assign(seed=MEAN), long.assign(seeds=1)], ignore_index=True)[[*_COLUMNS]]


def draw(summary: pd.DataFrame, ax: Axes, noisy: bool = False) -> Axes:
    """Draws training (dashed) and validation accuracy (solid) against steps, a colour a weight decay.

    noisy: of trials with wrong labels, with the share of these that is memorized in place of the training accuracy.
    """
    chosen = summary[(summary[NOISE] > 0) == noisy] if len(summary) else summary
    if chosen.empty:
        return figures.empty(ax, "no measured trial" + " with wrong labels" * noisy)
    first = MEMORIZED if noisy else TRAIN
    decays = np.sort(chosen[DECAY].unique())
    for decay, look in zip(decays, figures.looks(len(decays), ordered=False), strict=True):
        name = frames.text(decay, decays)
        for quantity, dashes in ((VALIDATION, "-"), (first, "--")):
            rows = chosen[(chosen[DECAY] == decay) & (chosen["quantity"] == quantity)].sort_values("step")
            label = name if quantity == VALIDATION else f"_{name}, {quantity}"
            for seed, curve in rows.groupby("seed", sort=True):
                is_mean = seed == MEAN
                width, alpha = (1.3, 1.0) if is_mean else (0.4, 0.3)
                shown = label if is_mean else f"_{name}, seed {seed}"
                line = (curve["step"], curve["estimate"], dashes)
                ax.plot(*line, color=look["color"], linewidth=width, alpha=alpha, label=shown)
    for quantity, dashes in ((VALIDATION, "-"), (first, "--")):
        ax.plot([np.nan], [np.nan], dashes, color="0.3", label=quantity)  # for the legend alone
    ax.set(xscale="log", xlabel="steps", ylabel="share", ylim=(-0.03, 1.03))
    fixed_values = {"width": chosen[WIDTH].iloc[0], "training share": chosen[SHARE].iloc[0]}
    fixed_values |= {"noise fraction": chosen[NOISE].iloc[0]} if noisy else {}
    fixed = ", ".join(f"{name} {texts([value], digits=2)[0]}" for name, value in fixed_values.items())
    figures.legend(ax, f"weight decay, at {fixed}")
    return ax


def _main(rows: pd.DataFrame) -> pd.DataFrame:
    trials = rows.drop_duplicates("trial_id")
    width = main_value(trials, WIDTH)
    share = main_value(trials[trials[WIDTH] == width], SHARE, largest=False)
    chosen = rows[(rows[WIDTH] == width) & (rows[SHARE] == share)]
    reached = chosen["validation_correct_count"] >= GENERAL * chosen["validation_count"]
    if (chosen[NOISE] > 0).all():
        return chosen
    counts = reached.groupby([chosen[DECAY], chosen["trial_id"]]).any().groupby(level=0).mean()
    return chosen[chosen[DECAY].isin((counts.index.min(), counts.idxmax()))]


def _spaced(times: np.ndarray) -> np.ndarray:
    """Returns at most POINTS of these positive times, in order, evenly chosen on a logarithmic scale."""
    wanted = np.geomspace(times[0], times[-1], POINTS)
    return np.unique(times[np.abs(times[:, None] - wanted).argmin(0)])


_COLUMNS = ("quantity", DECAY, NOISE, WIDTH, SHARE, "seed", "step", "estimate", "seeds")
_SEEDS = "Faint: each seed; thick: mean over seeds, which is smoother than any seed where they jump at different steps."
FIGURES = (
    figures.Figure(
        "accuracy",
        "Training and validation accuracy over steps",
        draw,
        f"Dashed: training examples; solid: validation examples, pairs that were never trained on. {_SEEDS}",
        rows=lambda summary: _means(summary, noisy=False),
        fixed="seeds are traced over the steps of training",
    ),
    figures.Figure(
        "memorized",
        "Wrong labels given back over steps",
        partial(draw, noisy=True),
        "Dashed: of the training examples with a wrong label, the share that is predicted as given; solid: validation "
        f"accuracy, on true labels. {_SEEDS}",
        rows=lambda summary: _means(summary, noisy=True),
        fixed="seeds are traced over the steps of training",
    ),
)


def _means(summary: pd.DataFrame, noisy: bool) -> pd.DataFrame:
    """Returns the means over seeds that a figure shows."""
    return summary[(summary["seed"] == MEAN) & ((summary[NOISE] > 0) == noisy)].drop(columns="seed")
