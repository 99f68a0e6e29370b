"""How many random labels can a network hold? The largest set that it fits, and the bits it memorizes, by its size."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from memsweep.analysis.core import figures, frames, panels, series, statistics
from memsweep.analysis.core.arrangement import DEFAULT, View

QUERY = frames.TRIALS
SIZE, WIDTH, PARAMETERS = "data_examples", "model_width", "parameters"
TUNED = ("optimizer_", "stop_", "model_initialization")
"""Fields over which the best is taken: capacity is a maximum over ways to train (Collins et al. 2017)."""

FITTED, BITS, BITS_BY_SIZE = "labels fitted", "bits memorized", "bits memorized by set size"
REQUESTED = "sizes requested"
"""Quantity of the rounds of a search (capacity_search)."""


def bits(examples: np.ndarray, accuracy: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Returns the bits of random labels held by a network that predicts a share `accuracy` (p) of them.

    I = N [log2 K + p log2 p + (1 - p) log2((1 - p) / (K - 1))], Collins et al. 2017 (K = 2; other K derived alike); 0
    at p <= 1 / K, where nothing is held.  All arguments [trials]; returns [trials] bits, at most N log2 K.

    >>> bits(np.array([100.0]), np.array([1.0]), np.array([2.0]))
    array([100.])
    """
    p = np.clip(accuracy, 1 / classes, 1)
    wrong = 1 - p
    lost = np.where(wrong > 0, wrong * np.log2(np.where(wrong > 0, wrong, 1) / np.maximum(classes - 1, 1)), 0)
    return np.asarray(examples * (np.log2(classes) + p * np.log2(p) + lost))


def summarize(trials: pd.DataFrame) -> pd.DataFrame:
    """Returns a row per quantity and network: mean over seeds with its bootstrap interval over seeds, at 95 %.

    labels fitted: a seed's largest set of which every label is fitted.  bits memorized: its largest `bits` over set
    sizes.  bits memorized by set size: `bits` for each size.  Each is the best over optimizers and budgets.
    Returns quantity, the fields of `fields_of_network`, data_examples (by size only), parameters, classes, depth,
    estimate, low, high, seeds, missing, at_least (seeds whose largest set was fitted, so that the truth lies higher),
    at_most (seeds that fitted no set: their smallest size is taken), size_step (ratio of neighbouring sizes).
    """
    if trials.empty:
        return pd.DataFrame(columns=list(_COLUMNS))
    network = fields_of_network(trials)
    by_size = best_by_size(with_bits(trials), network)
    by_seed = statistics.by_group(by_size, [*network, "seed"], of_seed)
    pieces = [
        estimated(by_seed, network, "fitted_size", ["at_least", "at_most"]).assign(quantity=FITTED),
        estimated(by_seed, network, "bits", ["at_least", "at_most"]).assign(quantity=BITS),
        with_partial(
            statistics.over_seeds(by_size, [*network, SIZE], "bits"), by_size, [*network, SIZE], "bits"
        ).assign(quantity=BITS_BY_SIZE),
    ]
    facts = by_size.groupby(network, sort=False)[[PARAMETERS, "classes", "depth"]].max().reset_index()
    summary = pd.concat(pieces, ignore_index=True).merge(facts, on=network, how="left")
    sizes = [np.sort(group.unique()) for _, group in by_size.groupby(network)[SIZE]]
    steps = np.concatenate([size[1:] / size[:-1] for size in sizes])
    summary["size_step"] = float(np.median(steps)) if len(steps) else np.nan
    return summary


def fields_of_network(trials: pd.DataFrame) -> list[str]:
    """Returns the columns that make a network: its width, and the fields that vary but for set size and training."""
    names = [name for name in frames.varying(trials) if name != SIZE and not name.startswith(TUNED)]
    return names if WIDTH in names else [*names, WIDTH]


def axes(summary: pd.DataFrame, x: str = PARAMETERS) -> list[str]:
    """Returns the columns that a view may choose in a figure along x: parameters, set size or round, and the fields of
    a network."""
    fields = [name for name in frames.fields_of(summary) if name not in (SIZE, "seed")]
    return list(dict.fromkeys([x, *fields, PARAMETERS])) if x in (PARAMETERS, WIDTH) else [x, *fields]


def draw(summary: pd.DataFrame, ax: Axes, quantity: str = FITTED, x: str = PARAMETERS, view: View = DEFAULT) -> Axes:
    """Draws a quantity against a property of the network or of the set, with lines of theory, both logarithmic.

    x: a key of AXES.  view: other columns of `axes`.
    """
    chosen = summary[(summary["quantity"] == quantity) & (summary["estimate"] > 0) & (summary[x] > 0)]
    if chosen.empty:
        return figures.empty(ax, f"no finished trial has a value for {quantity}")
    names, is_power = axes(chosen, x), x in (PARAMETERS, WIDTH)
    sizes = (x, WIDTH, PARAMETERS) if is_power else (x,)
    others = [name for name in names if name not in sizes and chosen[name].nunique(dropna=False) > 1]
    plane = panels.Plane(
        UNITS[quantity],
        x,
        tuple(others),
        {"yscale": "log", **AXES[x]},
        is_power=is_power,
        is_scaled=False,
        lines=partial(_theory, quantity=quantity),
        bounds=BOUNDS if is_power else {},
    )
    return panels.draw(chosen, ax, names, plane, view)


def with_bits(trials: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows with `bits`, the bits of labels that each trial holds at its end, by Collins et al. (2017)."""
    accuracy = frames.share(trials["train_correct_count"], trials["train_count"])
    return trials.assign(
        bits=bits(*(column.to_numpy(float) for column in (trials[SIZE], accuracy, trials["class_count"])))
    )


def best_by_size(trials: pd.DataFrame, network: list[str]) -> pd.DataFrame:
    """Returns a row per network, seed and set size: whether it was fitted, and the bits held, by the best way to train.

    trials: with `bits`; values of trials without a result are dropped.
    Returns network, seed, data_examples, fitted, bits, parameters, classes, depth, width, has_result (all ways have a
    result), tried (number of ways with a result), whole (all ways have ended).
    """
    good = frames.usable(trials)
    accuracy = frames.share(trials["train_correct_count"], trials["train_count"])
    rows = trials.assign(
        fitted=(trials["fitted_step"].notna() | (accuracy == 1)) & good,
        bits=trials["bits"].where(good),
        parameters=trials["parameter_count"].astype(float),
        classes=trials["class_count"].astype(float),
        depth=trials["model_depth"],
        width=trials["model_width"],
        has_result=good,
        tried=good.astype(int),
        whole=frames.settled(trials),
    )
    keys = list(dict.fromkeys([*network, "seed", SIZE]))
    best = {name: "max" for name in ("fitted", "bits", "parameters", "classes", "depth", "width")}
    return (
        rows.groupby(keys, sort=True).agg({**best, "has_result": "all", "tried": "sum", "whole": "all"}).reset_index()
    )


def of_seed(sizes: pd.DataFrame) -> dict[str, float]:
    """Returns one seed's capacity, from all its set sizes."""
    size, fitted, has_result, whole = (sizes[name].to_numpy() for name in (SIZE, "fitted", "has_result", "whole"))
    decided = size[has_result | fitted]
    largest = size[fitted].max() if fitted.any() else decided.min() if len(decided) else np.nan
    return {
        "fitted_size": float(largest),
        "bits": sizes["bits"].max(),
        "at_least": float(fitted.any() and not has_result[size > largest].any()),
        "at_most": float(not fitted.any() and len(decided) > 0),
        "whole": bool((whole | (size <= largest)).all()),
        "parameters": float(sizes["parameters"].max()),
    }


def estimated(by_seed: pd.DataFrame, network: list[str], value: str, counted: list[str]) -> pd.DataFrame:
    """Returns the mean of `value` over seeds (`statistics.over_seeds`), with sums over seeds of the columns `counted`.

    missing: seeds without a result, and seeds with unfinished trials that might change it (not `whole`).
    """
    means = statistics.over_seeds(by_seed, network, value, has_values=True)
    summary = with_partial(means, by_seed, network, value)
    return summary.merge(by_seed.groupby(network, sort=True)[counted].sum().reset_index(), on=network)


def with_partial(summary: pd.DataFrame, rows: pd.DataFrame, by: list[str], value: str) -> pd.DataFrame:
    """Returns the summary of these rows, with rows that have a `value` but are not `whole` counted as missing too."""
    partial = rows[rows[value].notna() & ~rows["whole"].astype(bool)].groupby(by).size().rename("partial").reset_index()
    counts = summary[by].merge(partial, how="left", on=by)["partial"].fillna(0).astype(int)
    return summary.assign(missing=summary["missing"] + counts.to_numpy())


def _theory(ax: Axes, rows: pd.DataFrame, x: str, quantity: str) -> None:
    """Draws lines of theory that apply to the networks drawn."""
    places = np.sort(rows[x].dropna().unique()) if x in AXES else np.array([])
    if x == SIZE:
        classes = rows["classes"].max()
        name = "all labels: N" if classes == 2 else "all labels: N log2 K"
        figures.reference(ax, places[[0, -1]], places[[0, -1]] * np.log2(classes), name)
    elif x == PARAMETERS:
        unit = "bit{} a parameter" if quantity == BITS else "label{} a {}"
        figures.reference(ax, places, 2 * places, f"2 {unit.format('s', 'weight')} (Cover)", ":")
        figures.reference(ax, places, places, f"1 {unit.format('', 'parameter')}")
    elif x == WIDTH and quantity == FITTED:
        for depth in sorted(rows["depth"].unique()):
            for label, dashes, labels in _WIDTHS.get(depth, ()):
                figures.reference(ax, places, labels(places), label, dashes)


_COLUMNS = (
    "quantity", WIDTH, SIZE, PARAMETERS, "classes", "depth", "estimate", "low", "high", "seeds", "missing", "at_least",
    "at_most", "size_step",
)  # fmt: skip

AXES = {
    PARAMETERS: {"xscale": "log", "xlabel": "parameters (P)"},
    WIDTH: {"xscale": "log", "xlabel": "hidden units a layer (d)"},
    SIZE: {"xscale": "log", "xlabel": "random labels (N)"},
    "round": {"xlabel": "round"},
}
"""Column along x -> its axis."""
UNITS = {
    FITTED: "random labels fitted (N)",
    BITS: "memorized (bits)",
    BITS_BY_SIZE: "memorized (bits)",
    REQUESTED: "random labels requested (N)",
}
"""Quantity -> label of its axis."""
BOUNDS = {"at_least": ("^", "at least: largest set fitted"), "at_most": ("v", "at most")}

_WIDTHS: dict[int, tuple[tuple[str, str, Callable[[np.ndarray], np.ndarray]], ...]] = {
    # depth: (name, dashes, labels as a function of the width d)
    1: (("d + 2: beyond, some sets can't be fitted (Yun et al.)", "--", lambda d: d + 2),),
    2: (
        ("4⌊d/4⌋²: every set can be fitted (Yun et al.)", "--", lambda d: np.where(d >= 4, 4 * (d // 4) ** 2, np.nan)),
        ("2d² + d + 2: beyond, some sets can't be (Yun et al.)", ":", lambda d: 2 * d**2 + d + 2),
    ),
}
"""Yun et al. 2019, for d hidden units in each layer and one output; after lecture notes and our derivation."""

_INTERVAL = (
    f"{series.POWER}They leave out marked points. Mean over seeds; bars: 95 % bootstrap interval over seeds, not over "
    "the grid of set sizes."
)

FIGURES = (
    figures.Figure(
        "fitted-by-width",
        "Random labels fitted, by width",
        partial(draw, x=WIDTH),
        "The largest set of random labels of which a network fits every one, the best over ways to train, with widths "
        "that Yun et al. (2019) prove, as reconstructed from secondary sources: those speak of the worst set of "
        f"examples, and random ones are easier. {_INTERVAL}",
        rows=frames.of_quantity(FITTED),
        axes=partial(axes, x=WIDTH),
    ),
    figures.Figure(
        "fitted-by-parameters",
        "Random labels fitted, by parameters",
        draw,
        "The same against all trained parameters. Cover (1965) gives 2 labels a weight to a perceptron, for half of "
        f"all labellings; a network of layers need not follow it. {_INTERVAL}",
        rows=frames.of_quantity(FITTED),
        axes=axes,
    ),
    figures.Figure(
        "bits",
        "Bits memorized, by parameters",
        partial(draw, quantity=BITS),
        "Largest over set sizes of N [log2 K + p log2 p + (1 - p) log2((1 - p) / (K - 1))], p the share of labels "
        f"predicted at the end (Collins et al. 2017). A lower bound, since training may find more. {_INTERVAL}",
        rows=frames.of_quantity(BITS),
        axes=axes,
    ),
    figures.Figure(
        "bits-by-size",
        "Bits memorized, by set size",
        partial(draw, quantity=BITS_BY_SIZE, x=SIZE),
        f"The same for each number of labels: on the line all of them are held; a plateau is the capacity. {_INTERVAL}",
        rows=frames.of_quantity(BITS_BY_SIZE),
        axes=partial(axes, x=SIZE),
    ),
)
