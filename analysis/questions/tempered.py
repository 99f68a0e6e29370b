"""What do wrong labels cost where all are fitted, and where training stops early? After Mallinar et al. 2022."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from memsweep.analysis.core import figures, frames, series, statistics
from memsweep.analysis.core.arrangement import DEFAULT, View
from memsweep.spec.schema import Status

QUERY = frames.CURVES.replace("t.parameter_count,", "t.parameter_count, t.class_count,")
"""All measurements of a sweep's trials, and the number of classes."""
EXAMPLES, NOISE = "data_examples", "data_noise_fraction"
FITTED, STOPPED = "at interpolation", "stopped early"
ERROR, SLOPE = "validation error", "excess error per wrong label"


def errors(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns each trial's validation error where it has fitted all labels, and where it is stopped early.

    rows: of QUERY.  Stopped early: at the measurement where the mean error of the other seeds of the setting is least,
    so that no seed takes part in choosing its own time; a trial that has ended keeps its last error.
    Returns examples, noise, seed, kind (FITTED or STOPPED), error (NaN: not fitted, or no result).
    """
    rows = frames.rounded_fields(rows)
    pieces = [
        pd.DataFrame({"examples": examples, "noise": noise, "seed": seeds, "kind": kind, "error": error})
        for (examples, noise), of_setting in rows.groupby([EXAMPLES, NOISE], sort=True)
        for seeds, kinds in [_of_setting(of_setting)]
        for kind, error in kinds.items()
    ]
    return pd.concat(pieces, ignore_index=True)


def _of_setting(rows: pd.DataFrame) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Returns the seeds [S] of a setting, and their errors [S] by kind."""
    good = rows[frames.usable(rows) & rows["step"].notna()]
    share = frames.share(good["validation_correct_count"], good["validation_count"])
    seeds = np.sort(rows["seed"].unique())
    curves = good.assign(error=1 - share).pivot_table(index="seed", columns="step", values="error")
    values = curves.ffill(axis=1).reindex(seeds).to_numpy(float)  # [S, T]
    last = good.sort_values("step").groupby("seed").tail(1).set_index("seed")
    is_fitted = (last["train_correct_count"] == last["train_count"]).reindex(seeds, fill_value=False).to_numpy(bool)
    at_end = np.where(is_fitted, values[:, -1], np.nan) if values.size else np.full(len(seeds), np.nan)
    stopped = np.full(len(seeds), np.nan)
    for place in range(len(seeds)):
        others = np.delete(values, place, axis=0)
        others = others[~np.isnan(others).any(axis=1)] if others.size else others
        if others.size:
            stopped[place] = values[place, int(others.mean(axis=0).argmin())]
    return seeds, {FITTED: at_end, STOPPED: stopped}


def slopes(by_trial: pd.DataFrame) -> pd.DataFrame:
    """Returns a seed's excess error per wrong label, by examples and kind: the slope of a line through its clean error.

    by_trial: of `errors`.  Returns examples, kind, seed, slope (NaN where an error lacks).
    """
    return statistics.by_group(by_trial, ["examples", "kind", "seed"], _slope)


def excess(by_trial: pd.DataFrame) -> pd.DataFrame:
    """Returns the errors with `excess`, less the error of the same seed, examples and kind without noise."""
    keys = ["examples", "kind", "seed"]
    clean = by_trial[by_trial["noise"] == 0].set_index(keys)["error"].rename("clean")
    joined = by_trial.join(clean, on=keys)
    return joined.assign(excess=joined["error"] - joined["clean"])


def _slope(rows: pd.DataFrame) -> dict[str, float]:
    noisy = rows[rows["noise"] > 0]
    clean = rows.loc[rows["noise"] == 0, "error"].to_numpy(float)
    if not len(clean) or noisy.empty:
        return {"slope": np.nan}
    shares, extra = noisy["noise"].to_numpy(float), noisy["error"].to_numpy(float) - clean[0]
    return {"slope": float((shares * extra).sum() / (shares**2).sum())}


def summarize(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns validation error by noise, and excess error per wrong label, over seeds.

    Returns quantity, examples, noise (NaN for slopes), kind, estimate, low, high, seeds, missing.
    """
    by_trial = errors(rows).assign(status=Status.FINISHED)
    slope = slopes(by_trial).assign(status=Status.FINISHED)
    return pd.concat(
        [
            series.summarize(by_trial, {ERROR: by_trial["error"]}, ["examples", "noise", "kind"]),
            series.summarize(slope, {SLOPE: slope["slope"]}, ["examples", "kind"]),
        ],
        ignore_index=True,
    )


def draw_error(summary: pd.DataFrame, ax: Axes, view: View = DEFAULT) -> Axes:
    """Draws validation error by noise, at interpolation and stopped early, a panel a number of examples."""
    axis = {"xlabel": "wrong labels (share)", "ylim": (0, None)}
    return series.draw(summary, ax, WHAT, {}, axis, view, lines=_as_many)


def _as_many(ax: Axes, rows: pd.DataFrame, x: str) -> None:
    """Draws an error for each wrong label."""
    if x == "noise":
        ends = np.array([rows[x].min(), rows[x].max()], float)
        figures.reference(ax, ends, ends, "as many errors as wrong labels")


WHAT = (ERROR, "noise", "kind")
_NOTE = (
    "At interpolation: every training label is fitted. Stopped early: where the mean validation error of the "
    "other seeds is least."
)
FIGURES = (
    figures.Figure(
        "error",
        "Error by wrong labels, fitted and stopped early",
        draw_error,
        f"Error on true labels. {_NOTE} {series.OVER_SEEDS}",
        rows=frames.of_quantity(ERROR),
        axes=partial(series.keys, what=WHAT, selection={}),
    ),
    series.figure(
        "slope",
        "Excess error per wrong label by examples",
        f"Slope of the error on true labels, less that without noise, against the share of wrong labels. {_NOTE}",
        (SLOPE, "examples", "kind"),
        xlabel="training examples (N)",
        xscale="log",
        ylim=(0, None),
    ),
)
