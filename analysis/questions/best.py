"""Which configuration is best? What a search proposed and found; with two objectives, their Pareto front."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from memsweep.analysis.core import figures, frames
from memsweep.spec.search import objectives

QUERY = frames.ROUNDS
PROPOSED, FRONT = "proposed", "on the front"


def summarize(trials: pd.DataFrame) -> pd.DataFrame:
    """Returns a row per configuration, in the order of proposals, with the mean over seeds of each objective.

    Returns proposed (from 1), round, whole (all its seeds went to the end), best (the best so far; with two objectives,
    on the Pareto front), a column for each objective, seeds, missing, and the fields that vary.
    """
    proposed = trials.dropna(subset=["search_fields"])
    if proposed.empty:
        return pd.DataFrame(columns=[PROPOSED, "round", "whole", "best", "seeds", "missing"])
    goals: dict[str, str] = json.loads(proposed["search_fields"].iloc[0])["objectives"]
    # trials stopped early are shown with their last values
    ends = [frames.mapping(row) for row in proposed.replace({"status": {"pruned": "interrupted"}}).to_dict("records")]
    rows = proposed.assign(**{goal: [objectives.value(goal, end) for end in ends] for goal in goals})
    by_setting = rows.groupby("setting_id", sort=False)
    names = frames.varying(proposed)
    configurations = by_setting[["round", *names]].first().join(by_setting[list(goals)].agg(_mean))
    configurations["whole"] = by_setting["status"].agg(lambda status: bool((status == "finished").all()))
    first = by_setting[next(iter(goals))]
    configurations["seeds"], configurations["missing"] = first.count(), first.agg(_absent)
    signed = np.stack([configurations[goal] * (1 if way == "maximize" else -1) for goal, way in goals.items()], axis=1)
    candidates = np.where(configurations["whole"].to_numpy()[:, None], signed, -np.inf)
    configurations["best"] = _record(candidates[:, 0]) if len(goals) == 1 else _on_front(candidates)
    return (
        configurations.reset_index(drop=True)
        .assign(**{PROPOSED: np.arange(1, len(configurations) + 1)})
        .assign(goals=json.dumps(goals))
    )


def draw(summary: pd.DataFrame, ax: Axes) -> Axes:
    """Draws one objective in the order of proposals, with the best so far; or two objectives, with their front."""
    if summary.empty:
        return figures.empty(ax, "no configuration is stored")
    goals: dict[str, str] = json.loads(summary["goals"].iloc[0])
    estimated = summary.dropna(subset=list(goals))
    if estimated.empty:
        return figures.empty(ax, "no finished trial has a value for the objective")
    x, y = (PROPOSED, *goals) if len(goals) == 1 else goals
    stopped, whole = estimated[~estimated["whole"]], estimated[estimated["whole"]]
    if len(stopped):
        ax.plot(stopped[x], stopped[y], "x", color="0.6", ms=4, ls="none", label="given up early")
    ax.plot(whole[x], whole[y], "o", color=figures.CATEGORIES[0], ms=3.5, ls="none", label="whole budget")
    best = whole[whole["best"]].sort_values(x)
    name = "best so far" if len(goals) == 1 else "Pareto front"
    ax.plot(best[x], best[y], "-", color=figures.CATEGORIES[1], marker="D", ms=3.5, label=name)
    ax.set(xlabel="configurations proposed" if x == PROPOSED else x.replace("_", " "), ylabel=y.replace("_", " "))
    figures.legend(ax)
    return ax


def _mean(values: pd.Series[float]) -> float:
    """Returns the mean over seeds; NaN where a seed has no value."""
    return float(values.mean(skipna=False))


def _absent(values: pd.Series[float]) -> int:
    return int(values.isna().sum())


def _record(values: np.ndarray) -> np.ndarray:
    """Returns whether each value is larger than all before it. values [n], larger is better; returns [n]."""
    before = np.maximum.accumulate(np.concatenate([[-np.inf], np.nan_to_num(values, nan=-np.inf)]))[:-1]
    return np.asarray(values > before)


def _on_front(values: np.ndarray) -> np.ndarray:
    """Returns whether no other point is at least as good in both and better in one.

    values [n, 2], larger is better; returns [n].
    """
    at_least = np.all(values[None] >= values[:, None], axis=2)
    better = np.any(values[None] > values[:, None], axis=2)
    return np.asarray(np.all(np.isfinite(values), axis=1) & ~np.any(at_least & better, axis=1))


FIGURES = (
    figures.Figure(
        "search",
        "What the search found",
        draw,
        "Each point is a configuration, the mean over its seeds. The best is chosen among many by the same numbers, so "
        "it looks better here than it is: test it on data that the search has not seen.",
        rows=lambda summary: summary.drop(columns=["goals"], errors="ignore"),
        fixed="the search has one or two objectives, which it draws",
    ),
)
