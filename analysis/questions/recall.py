"""How many key-value pairs does a network recall, by its width, its depth and the learning rate? Cells and attention.

The sequence shows D pairs and then each key once more, at a place that is drawn; the answer is the key's value. Two
networks that read no key set the scale: one answers any value (right in 2 / V of the queries), the other the value of
the pair that is queried most often at this place, since not all pairs are queried at a place equally often.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from memsweep.analysis.core import figures, frames, series
from memsweep.analysis.core.arrangement import DEFAULT, View
from memsweep.spec.options import GAP_POWER
from memsweep.spec.schema import Status

QUERY = frames.TRIALS
TASK, FAMILY, CELL, DEPTH = "data_task", "model_family", "model_cell", "model_depth"
PAIRS, LENGTH, TOKENS, WIDTH, RATE = (
    *("data_items", "data_sequence_length", "data_vocabulary"),
    *("model_width", "optimizer_learning_rate"),
)
NETWORK = "network"
RECALLED, BEST = "queries right (share)", "queries right at the best rate (share)"
BLIND, BY_PLACE = "guess: any value (2 / V)", "guess: most frequent pair at the place"
"""Columns of the share of queries that is right by chance, and names of their lines."""


def name_of(network: str, depth: int) -> str:
    """Returns the name of a network.  network: a recurrent cell or another family.

    >>> name_of("gru", 1), name_of("transformer", 2)
    ('gru, 1 layer', 'transformer, 2 blocks')
    """
    unit = "block" if network in ("transformer", "attention") else "layer"
    return f"{network}, {depth} {unit}{'s' * (depth != 1)}"


@cache
def by_place(pairs: int, steps: int) -> float:
    """Returns the share of queries that is right where each place is answered with its most frequent pair.

    pairs: D.  steps: T.  The pairs draw the (T - 2D) / 2 places in turn, without replacement, with weights
    place ** (GAP_POWER - 1): with exponential times of these rates, the i-th pair has the place of the i-th time.

    >>> round(by_place(1, 4), 3), round(by_place(2, 8), 3)
    (1.0, 0.665)
    """
    weights = np.arange(1, (steps - 2 * pairs) // 2 + 1) ** (GAP_POWER - 1.0)
    logs = np.linspace(np.log(1e-9), np.log(50 / weights.min()), 200)  # of times; the trapezoid rule is accurate there
    times = np.exp(logs)
    right = 0.0
    for place, weight in enumerate(weights):
        earlier = np.zeros((pairs, len(times)))  # P(so many other places have an earlier time)
        earlier[0] = 1.0
        for other in np.delete(weights, place):
            is_earlier = -np.expm1(-other * times)
            moved = earlier[:-1] * is_earlier
            earlier *= 1 - is_earlier
            earlier[1:] += moved
        density = weight * times * np.exp(-weight * times)
        right += float(np.trapezoid(earlier * density, logs, axis=1).max())
    return min(1.0, right / pairs)


def select(trials: pd.DataFrame) -> pd.DataFrame:
    """Returns the trials of the task recall."""
    return trials[trials[TASK] == "recall"]


def measured(trials: pd.DataFrame) -> pd.DataFrame:
    """Returns the trials with the name of their network and the share of validation queries that is right at the end.

    The share is 0 where a trial diverged, NaN where it has no result.
    """
    share = frames.share(trials["validation_target_correct_count"], trials["validation_target_count"])
    share = share.where(frames.usable(trials)).mask(trials["status"] == Status.DIVERGED.value, 0.0)
    kinds = trials[CELL].where(trials[CELL] != "none", trials[FAMILY])
    names = [name_of(kind, int(depth)) for kind, depth in zip(kinds, trials[DEPTH], strict=True)]
    return trials.assign(**{NETWORK: pd.Series(names, trials.index, dtype=object)}).assign(**{RECALLED: share})


def settings(trials: pd.DataFrame) -> list[str]:
    """Returns the columns that make a setting beside the learning rate."""
    others = [name for name in frames.varying(trials) if name not in (FAMILY, CELL, DEPTH, RATE)]
    return list(dict.fromkeys([NETWORK, WIDTH, PAIRS, LENGTH, TOKENS, *others]))


def best(trials: pd.DataFrame) -> pd.DataFrame:
    """Returns a row per setting and seed: its largest share of right queries over the learning rates.

    trials: as for `measured`. Rates that only few settings have are left out, so that none has more to choose from.
    Returns the columns of `settings`, seed, and the share; NaN where a rate has no result.
    """
    rows, keys = measured(trials), settings(trials)
    counts = rows.drop_duplicates([*keys, RATE])[RATE].value_counts()
    rates = counts.index[counts > counts.max() / 2]
    tuned = rows[rows[RATE].isin(rates)]
    of_seed = tuned.groupby([*keys, "seed"], sort=True)[RECALLED].agg(["max", "count"]).reset_index()
    return of_seed.assign(**{BEST: of_seed["max"].where(of_seed["count"] >= len(rates))})[[*keys, "seed", BEST]]


def summarize(trials: pd.DataFrame) -> pd.DataFrame:
    """Returns the shares of right queries, at the best rate of a seed and at each rate: means over seeds.

    trials: as for `measured`, filtered by `select`.
    Returns quantity, the columns of `settings`, optimizer_learning_rate (NaN at the best rate), estimate, low, high
    (bootstrap over seeds, 95 %), seeds, missing, values, and the shares BLIND and BY_PLACE (NaN with the task's own
    number of pairs or tokens).
    """
    keys = [*settings(trials), RATE]
    if trials.empty:
        return pd.DataFrame(columns=["quantity", *keys, *_ESTIMATE, BLIND, BY_PLACE])
    at_best = best(trials).assign(status=Status.FINISHED.value)
    at_rates = measured(trials).assign(status=Status.FINISHED.value)
    pieces = [
        series.summarize(at_best, {BEST: at_best[BEST]}, keys[:-1]),
        series.summarize(at_rates, {RECALLED: at_rates[RECALLED]}, keys),
    ]
    summary = pd.concat(pieces, ignore_index=True).reindex(columns=["quantity", *keys, *_ESTIMATE])
    tokens, sizes = summary[TOKENS].astype(float), zip(summary[PAIRS], summary[LENGTH], strict=True)
    places = [by_place(int(pairs), int(steps)) if pairs > 0 else np.nan for pairs, steps in sizes]
    return summary.assign(**{BLIND: 2 / tokens.where(tokens > 0)}).assign(**{BY_PLACE: np.array(places, float)})


def draw(
    summary: pd.DataFrame, ax: Axes, what: tuple[str, str, str], axis: dict[str, Any], view: View = DEFAULT
) -> Axes:
    """Draws a share of right queries against x, a curve a network, beside what networks reach that read no key.

    what: quantity, column of x, column of the curves.  axis: arguments of Axes.set.
    """
    chosen = view.within(series.keys(summary, what, {}))
    has_lines = figures.is_ours(ax) and PAIRS not in chosen.curves  # else a panel has several numbers of pairs
    return series.draw(summary, ax, what, {}, axis, view, **({"lines": _chances} if has_lines else {}))


def _chances(ax: Axes, rows: pd.DataFrame, x: str) -> None:
    """Draws the lines of chance of a panel."""
    for name, dashes in ((BY_PLACE, "--"), (BLIND, ":")):
        along = rows.dropna(subset=name).groupby(x)[name].max()
        figures.reference(ax, along.index, along.to_numpy(), name, dashes)


def _figure(name: str, title: str, note: str, what: tuple[str, str, str], **axis: Any) -> figures.Figure:
    axis = {"ylim": (0, 1.02), "ylabel": "queries right (share)", **axis}
    return figures.Figure(
        name,
        title,
        partial(draw, what=what, axis=axis),
        f"{note} {_NOTE}",
        rows=frames.of_quantity(what[0]),
        only={TASK: "recall"},
        axes=partial(series.keys, what=what, selection={}),
    )


_ESTIMATE = ("estimate", "low", "high", "seeds", "missing", "values")
_NOTE = (
    "Validation queries whose value is right, at the end of training, which for a trial that ends once solved is at "
    "99 % or above. Lines: what networks reach that read no key, and answer any value, or that of the most "
    f"frequent pair at a place. {series.OVER_SEEDS}"
)
_BEST = "At the best of the learning rates of a seed and setting, of those rates that most settings have."
FIGURES = (
    _figure("pairs", "Recall by pairs", _BEST, (BEST, PAIRS, NETWORK), xlabel="pairs (D)"),
    _figure("width", "Recall by width", _BEST, (BEST, WIDTH, NETWORK), xlabel="width (H)", xscale="log"),
    _figure(
        "rate",
        "Recall by learning rate",
        "A trial that diverged recalls nothing.",
        (RECALLED, RATE, NETWORK),
        xlabel="learning rate",
        xscale="log",
    ),
)
