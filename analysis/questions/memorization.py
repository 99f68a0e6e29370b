"""Which examples are memorized, and which influence test examples? After Feldman and Zhang 2020.

For trials with the probe `memorization`, on subsets of a shared pool. The score of an example is the share of networks
that are right on it among the subsets with it, less that among the subsets without it; the influence of a training
example on a test example is the same difference, of answers to the test example.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from pandas.api.types import is_numeric_dtype
from scipy import stats

from memsweep.analysis.core import figures, frames, panels, statistics
from memsweep.analysis.core.arrangement import DEFAULT, View

QUERY = """with answers as (
select w.setting_id, w.position, w.seed, t.seeds_inputs as pool_inputs, m.*,
case when t.data_label_scheme = 'task' then 0 else t.seeds_labels end as pool_labels,
case when t.data_noise_fraction = 0 then 0 else t.seeds_noise end as pool_noise
from wanted w join trials t using (trial_id) join memorization m using (trial_id)
where w.sweep = '{sweep}' and t.status in ('finished', 'pruned'))
select w.setting_id, w.trial_id, w.seed, t.status, w.position
from wanted w left join trials t using (trial_id) where w.sweep = '{sweep}'
union all by name
select setting_id, min(trial_id) as trial_id, 0 as seed, 'finished' as status, min(position) as position, part, example,
any_value(corrupted) as corrupted, any_value(given_label) as given_label, pool_inputs, pool_labels, pool_noise,
list(is_trained order by seed, trial_id) as trained, list(is_right order by seed, trial_id) as answers
from answers group by setting_id, pool_inputs, pool_labels, pool_noise, part, example
order by answers is not null, position, part, example"""
"""A row a trial; then a row for each example of a pool, validation or test set: in which of its subsets it was trained
on, and in which it was right."""

POOL = ("pool_inputs", "pool_labels", "pool_noise")
"""Columns that, with a setting, identify a pool: seeds of the streams that it depends on."""
SCORE, HISTOGRAM, PAIRS = "mean score", "examples (share)", "pairs (share)"
TRUE, WRONG = "true labels", "corrupted"
SAME, OTHER, CHANCE = "same class", "other classes", "answers exchanged among subsets"
BLOCKS = 20
"""Blocks of subsets that are left out in turn for standard errors (jackknife)."""
EDGES = np.linspace(-0.25, 1.0, 26)
"""Edges of the histogram's bins; scores below the first count in the first bin."""
WHY_EMPTY = "no finished trials on subsets of a shared pool: fix seeds.inputs and seeds.noise"
INFLUENCES = np.array([0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6])
Z = float(stats.norm.ppf((1 + statistics.LEVEL) / 2))


class Answers(NamedTuple):
    """Answers of the networks of one pool."""

    trained: np.ndarray  # [E, S] bool, example e is in subset s
    right: np.ndarray  # [E, S] bool, of the same examples
    corrupted: np.ndarray  # [E] bool
    labels: np.ndarray  # [E] int64, as given
    tested: np.ndarray  # [T, S] bool, right on test examples, or on validation examples where there is no test set
    test_labels: np.ndarray  # [T] int64


def scores(trained: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the memorization score of each example [E], and its standard error over subsets [E].

    trained, right: [E, S] bool.  Both are NaN where an example is in all subsets, or in none.

    >>> scores(np.array([[True, True, False, False]]), np.array([[True, True, True, False]]))
    (array([0.5]), array([0.35355339]))
    """
    inside, outside = trained.sum(1).astype(float), (~trained).sum(1).astype(float)
    with np.errstate(invalid="ignore", divide="ignore"):
        p_in, p_out = (trained & right).sum(1) / inside, (~trained & right).sum(1) / outside
        return p_in - p_out, np.sqrt(p_in * (1 - p_in) / inside + p_out * (1 - p_out) / outside)


def influences(trained: np.ndarray, tested: np.ndarray) -> np.ndarray:
    """Returns the influence of each training example on each test example, [E, T]; NaN as for `scores`.

    trained: [E, S] bool.  tested: [T, S] bool, right on test examples.
    """
    x, y = trained.astype(float), tested.astype(float)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(x @ y.T / x.sum(1)[:, None] - (1 - x) @ y.T / (1 - x).sum(1)[:, None])


def jackknifed(answers: Answers, statistic: Callable[[Answers], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Returns a statistic of a pool's answers [...], and its standard error over subsets [...]: a jackknife over blocks
    of subsets. NaN with fewer than two subsets."""
    subsets = answers.trained.shape[1]
    blocks = np.array_split(np.arange(subsets), min(BLOCKS, subsets))
    estimate = statistic(answers)
    if len(blocks) < 2:
        return estimate, np.full_like(estimate, np.nan)
    left = np.stack([statistic(_without(answers, block)) for block in blocks])
    spread = ((left - left.mean(axis=0)) ** 2).sum(axis=0)
    return estimate, np.sqrt(spread * (len(blocks) - 1) / len(blocks))


def _without(answers: Answers, block: np.ndarray) -> Answers:
    kept = {name: np.delete(getattr(answers, name), block, axis=1) for name in ("trained", "right", "tested")}
    return answers._replace(**kept)


def answers_of(rows: pd.DataFrame) -> Answers:
    """Returns the answers of one pool.  rows: of QUERY, of one setting and one pool."""
    pool = rows[rows["part"] == "pool"].sort_values("example")
    held_out = rows[rows["part"] == ("test" if (rows["part"] == "test").any() else "validation")]
    subsets = len(pool["answers"].iloc[0])
    tested = np.stack([*held_out["answers"]]).astype(bool) if len(held_out) else np.zeros((0, subsets), bool)
    return Answers(
        np.stack([*pool["trained"]]).astype(bool),
        np.stack([*pool["answers"]]).astype(bool),
        pool["corrupted"].to_numpy(bool),
        pool["given_label"].to_numpy(np.int64),
        tested,
        held_out["given_label"].to_numpy(np.int64),
    )


def axis_of(trials: pd.DataFrame) -> str:
    """Returns the field that scores are drawn along: the width where it varies, else the number with most values."""
    numeric = [column for column in frames.varying(trials) if is_numeric_dtype(trials[column])]
    return "model_width" if "model_width" in numeric or not numeric else max(numeric, key=lambda c: trials[c].nunique())


def summarize(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns mean scores along the axis, and of its largest value a histogram of scores and the influence of pairs.

    rows: of QUERY, with the fields of their trials.  Estimates are of one pool, with intervals over subsets at 95 %
    (jackknife); of several pools of a setting, their mean. Influences are of the setting with the largest axis and the
    least noise.
    Returns quantity, axis (column), x, group (setting and kind of examples), of mean scores also the varying fields and
    kind, estimate, low, high, seeds (subsets), missing (subsets without a result).
    """
    rows = frames.rounded_fields(rows)
    trials, answered = rows[rows["answers"].isna()], rows[rows["answers"].notna()]
    axis = axis_of(trials)
    others = [name for name in frames.varying(trials) if name != axis]
    fields = [axis, *others, "kind"]
    columns = ["quantity", "axis", "x", "group", *fields, "estimate", "low", "high", "seeds", "missing"]
    if answered.empty:
        return pd.DataFrame(columns=columns)
    absent = {key: len(group) for key, group in trials[~frames.usable(trials)].groupby([*others, axis])}
    pieces = []
    for key, of_setting in answered.groupby([*others, axis], sort=True):
        pools = [answers_of(pool) for _, pool in of_setting.groupby([*POOL])]
        named = frames.label(dict(zip(others, key[:-1], strict=True)), trials)
        is_last = key[-1] == answered[axis].max()
        facts: dict[str, Any] = {
            "axis": axis,
            "seeds": sum(pool.trained.shape[1] for pool in pools),
            "missing": absent.get(key, 0),
        }
        setting: dict[str, Any] = dict(zip([*others, axis], key, strict=True))
        pieces += [pd.DataFrame(piece).assign(**{"x": key[-1], **setting, **facts}) for piece in _means(pools, named)]
        if is_last:
            pieces += [pd.DataFrame(piece).assign(**facts) for piece in _histograms(pools, named)]
    last = answered[answered[axis] == answered[axis].max()]
    first = last[last["data_noise_fraction"] == last["data_noise_fraction"].min()]
    first = first[first["setting_id"] == first["setting_id"].iloc[0]]
    pools = [answers_of(pool) for _, pool in first.groupby([*POOL])]
    pieces += [pd.DataFrame(piece).assign(axis=axis, seeds=0, missing=0) for piece in _pairs(pools)]
    return pd.concat(pieces, ignore_index=True)[columns]


def _kinds(pool: Answers) -> dict[str, np.ndarray]:
    """Returns kind of examples -> which [E]; a kind without examples is left out."""
    kinds = {TRUE: ~pool.corrupted, WRONG: pool.corrupted}
    return {kind: which for kind, which in kinds.items() if which.any()}


def _over_pools(pools: list[Answers], statistic: Callable[[Answers], np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the mean of a statistic over pools, with its interval over subsets."""
    estimates, errors = (np.stack(part) for part in zip(*(jackknifed(pool, statistic) for pool in pools), strict=True))
    estimate, error = estimates.mean(axis=0), np.sqrt((errors**2).sum(axis=0)) / len(pools)
    return {"estimate": estimate, "low": estimate - Z * error, "high": estimate + Z * error}


def _means(pools: list[Answers], setting: str) -> list[dict[str, object]]:
    pieces: list[dict[str, object]] = []
    for kind in _kinds(pools[0]):

        def mean(pool: Answers, kind: str = kind) -> np.ndarray:
            return np.array([_mean(scores(pool.trained, pool.right)[0][_kinds(pool)[kind]])])

        group = ", ".join(filter(None, (setting, kind)))
        pieces.append({"quantity": SCORE, "group": group, "kind": kind, **_over_pools(pools, mean)})
    return pieces


def _mean(values: np.ndarray) -> float:
    """Returns the mean of the numbers among these values; NaN where there are none."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else np.nan


def _histograms(pools: list[Answers], setting: str) -> list[dict[str, object]]:
    pieces: list[dict[str, object]] = []
    for kind in _kinds(pools[0]):

        def shares(pool: Answers, kind: str = kind) -> np.ndarray:
            values = scores(pool.trained, pool.right)[0][_kinds(pool)[kind]]
            values = values[~np.isnan(values)].clip(EDGES[0], EDGES[-1])
            return np.histogram(values, EDGES)[0] / max(len(values), 1)

        group, middles = ", ".join(filter(None, (setting, kind))), (EDGES[:-1] + EDGES[1:]) / 2
        estimated = _over_pools(pools, shares)
        pieces.append({"quantity": HISTOGRAM, "x": middles, "group": group, **estimated})
    return pieces


def _pairs(pools: list[Answers]) -> list[dict[str, object]]:
    """Returns the share of pairs of a training and a test example with at least each of INFLUENCES."""
    generator = np.random.default_rng(0)
    shares: dict[str, list[np.ndarray]] = {SAME: [], OTHER: [], CHANCE: []}
    for pool in pools:
        if not len(pool.tested) or pool.trained.shape[1] < 2:
            continue
        is_same = pool.labels[:, None] == pool.test_labels
        measured = influences(pool.trained, pool.tested)
        exchanged = influences(pool.trained, pool.tested[:, generator.permutation(pool.tested.shape[1])])
        for kind, values in ((SAME, measured[is_same]), (OTHER, measured[~is_same]), (CHANCE, exchanged.ravel())):
            values = values[~np.isnan(values)]
            shares[kind].append((values[:, None] >= INFLUENCES).mean(axis=0) if len(values) else np.nan * INFLUENCES)
    return [
        {
            **{"quantity": PAIRS, "x": INFLUENCES, "group": kind, "estimate": np.mean(of_pools, axis=0)},
            **{"low": np.nan, "high": np.nan},
        }
        for kind, of_pools in shares.items()
        if of_pools
    ]


def draw(summary: pd.DataFrame, ax: Axes, quantity: str) -> Axes:
    """Draws one quantity, a curve for each group."""
    chosen = summary[summary["quantity"] == quantity]
    if chosen["estimate"].isna().all():
        return figures.empty(ax, WHY_EMPTY)
    groups = list(chosen.groupby("group", sort=False))
    for (group, points), look in zip(groups, figures.looks(len(groups), ordered=False), strict=True):
        figures.curve(ax, points[points["estimate"] > 0], "x", label=group, **look)
    names = {HISTOGRAM: "memorization score", PAIRS: "influence at least"}
    ax.set(xlabel=names[quantity], ylabel=quantity, yscale="log")
    figures.legend(ax)
    return ax


def draw_scores(summary: pd.DataFrame, ax: Axes, view: View = DEFAULT) -> Axes:
    """Draws mean scores along the axis, a curve a kind of examples."""
    chosen = summary[summary["quantity"] == SCORE]
    if chosen["estimate"].isna().all():
        return figures.empty(ax, WHY_EMPTY)
    axis = {"ylabel": "mean memorization score", "ylim": (min(0.0, chosen["low"].min()), 1.02)}
    plane = panels.Plane(SCORE, chosen["axis"].iloc[0], ("kind",), axis)
    return panels.draw(chosen, ax, axes(chosen), plane, view)


def axes(summary: pd.DataFrame) -> list[str]:
    """Returns the columns that a view may choose of mean scores."""
    return [*(name for name in frames.fields_of(summary) if name != "seed"), "kind"]


def draw_histogram(summary: pd.DataFrame, ax: Axes) -> Axes:
    """Draws the histogram of scores, on a logarithmic axis."""
    return draw(summary, ax, HISTOGRAM)


def draw_influence(summary: pd.DataFrame, ax: Axes) -> Axes:
    """Draws the share of pairs with at least some influence, on a logarithmic axis."""
    return draw(summary, ax, PAIRS)


_NOTE = (
    "Score of an example: share of networks that predict its given label, trained on subsets with it, less that on "
    "subsets without it."
)
FIGURES = (
    figures.Figure(
        "score",
        "Memorization score",
        draw_scores,
        f"{_NOTE} Mean over examples; bars: 95 % intervals over subsets (jackknife).",
        rows=frames.of_quantity(SCORE),
        axes=axes,
    ),
    figures.Figure(
        "histogram",
        "Histogram of memorization scores",
        draw_histogram,
        f"{_NOTE} Share of examples in bins of width 0.05, at the largest value of the axis; bars: 95 % intervals over "
        "subsets (jackknife).",
        rows=frames.of_quantity(HISTOGRAM),
        fixed="scores of examples are counted along x",
    ),
    figures.Figure(
        "influence",
        "Influence of training examples on test examples",
        draw_influence,
        "Share of pairs of a training and a test example whose influence is at least so large: share of networks that "
        "are right on the test example, trained with the training example, less that without it. At the largest value "
        "of the axis and the least noise. Chance: answers exchanged among subsets.",
        rows=frames.of_quantity(PAIRS),
        fixed="influences of pairs are counted along x",
    ),
)
