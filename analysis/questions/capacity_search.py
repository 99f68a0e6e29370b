"""How many random labels can a network hold? The capacity that a search found, and how its bracket narrowed."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from memsweep.analysis.core import figures, frames, statistics
from memsweep.analysis.questions import capacity

QUERY = frames.ROUNDS
NARROWING = "sizes requested"


def summarize(trials: pd.DataFrame) -> pd.DataFrame:
    """Returns a row per network with its capacity, and a row per network and round with the sizes of its trials.

    labels fitted: median over seeds of the largest set that a seed fits, with the interval of the sign test over seeds;
    its high end is NaN where it lies beyond the largest size.
    sizes requested: median over seeds, low and high the smallest and the largest.
    Returns quantity, the varying fields of the network, round (sizes requested only), estimate, low, high, seeds,
    missing, at_least (seeds that fitted the largest size), at_most (seeds that fitted no size), parameters, classes,
    depth, width.
    """
    if trials.empty:
        return pd.DataFrame(columns=list(_COLUMNS))
    names = frames.varying(trials)
    network = [name for name in names if name != capacity.SIZE and not name.startswith(capacity.TUNED)]
    network = network or ["model_width"]
    by_size = capacity.best_by_size(capacity.with_bits(trials), network)
    largest = trials[capacity.SIZE].max()
    by_seed = statistics.by_group(by_size, [*network, "seed"], capacity.of_seed)
    by_seed["at_least"] *= by_seed["fitted_size"] >= largest
    medians = statistics.median_over_seeds(by_seed, network, "fitted_size", "at_least").replace(np.inf, np.nan)
    counted = by_seed.groupby(network, sort=True)[["at_least", "at_most"]].sum().reset_index()
    facts = by_size.groupby(network, sort=False)[["parameters", "classes", "depth", "width"]].max().reset_index()
    capacities = (
        medians.drop(columns=["at_least", "censored"]).merge(counted, on=network).assign(quantity=capacity.FITTED)
    )
    round_sizes = trials.groupby([*network, "round"], sort=True)[capacity.SIZE]
    sizes = (
        round_sizes.agg(estimate="median", low="min", high="max").reset_index().assign(quantity=NARROWING, missing=0)
    )
    return pd.concat([capacities, sizes], ignore_index=True).merge(facts, on=network, how="left")


def draw_rounds(summary: pd.DataFrame, ax: Axes) -> Axes:
    """Draws the sizes of each round, a curve a network."""
    chosen = summary[summary["quantity"] == NARROWING].dropna(subset=["round"])
    if chosen.empty:
        return figures.empty(ax, "no round of a search is stored")
    network = [name for name in frames.varying(chosen)] or ["model_width"]
    curves = list(chosen.groupby(network, sort=True))
    for (values, points), look in zip(curves, figures.looks(len(curves), ordered=True), strict=True):
        figures.curve(ax, points, "round", label=frames.label(dict(zip(network, values, strict=True)), chosen), **look)
    ax.set(yscale="log", xlabel="round", ylabel="random labels requested (N)")
    figures.grid_ticks(ax.xaxis, sorted(chosen["round"].unique()))
    figures.plain_ticks(ax.yaxis)
    figures.legend(ax)
    return ax


_COLUMNS = (
    "quantity", "model_width", "round", "parameters", "classes", "depth", "width", "estimate", "low", "high", "seeds",
    "missing", "at_least", "at_most",
)  # fmt: skip

_INTERVAL = "Median over seeds of a seed's largest set; bars: the sign test's interval over seeds, not over sizes."

FIGURES = (
    figures.Figure(
        "fitted-by-width",
        "Random labels fitted, by width",
        partial(capacity.draw, against="width"),
        "The largest set of random labels of which a network fits every one, found by bisection, the best over ways to "
        "train, with widths that Yun et al. (2019) prove, as reconstructed from secondary sources: those speak of the "
        f"worst set of examples, and random ones are easier. {_INTERVAL}",
        rows=figures.of_quantity(capacity.FITTED),
    ),
    figures.Figure(
        "fitted-by-parameters",
        "Random labels fitted, by parameters",
        capacity.draw,
        f"The same against all trained parameters. Cover (1965) gives 2 labels a weight to a perceptron. {_INTERVAL}",
        rows=figures.of_quantity(capacity.FITTED),
    ),
    figures.Figure(
        "rounds",
        "How the search narrowed",
        draw_rounds,
        "Sizes requested in each round: the median over seeds, bars from the smallest to the largest.",
        rows=figures.of_quantity(NARROWING),
    ),
)
