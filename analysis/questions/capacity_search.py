"""How many random labels can a network hold? The capacity that a search found, and how its bracket narrowed."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd

from memsweep.analysis.core import figures, frames, statistics
from memsweep.analysis.questions import capacity

QUERY = frames.ROUNDS


def summarize(trials: pd.DataFrame) -> pd.DataFrame:
    """Returns a row per network with its capacity, and a row per network and round with the sizes of its trials.

    labels fitted: median over seeds of the largest set that a seed fits, with the interval of the sign test over seeds;
    its high end is NaN where it lies beyond the largest size.
    sizes requested: median over seeds, low and high the smallest and the largest.
    Returns quantity, the varying fields of the network, round (sizes requested only), estimate, low, high, seeds,
    missing, at_least (seeds that fitted the largest size), at_most (seeds that fitted no size), parameters, classes,
    depth.
    """
    if trials.empty:
        return pd.DataFrame(columns=list(_COLUMNS))
    network = capacity.fields_of_network(trials)
    by_size = capacity.best_by_size(capacity.with_bits(trials), network)
    largest = trials[capacity.SIZE].max()
    by_seed = statistics.by_group(by_size, [*network, "seed"], capacity.of_seed)
    by_seed["at_least"] *= by_seed["fitted_size"] >= largest
    medians = statistics.median_over_seeds(by_seed, network, "fitted_size", "at_least").replace(np.inf, np.nan)
    counted = by_seed.groupby(network, sort=True)[["at_least", "at_most"]].sum().reset_index()
    facts = by_size.groupby(network, sort=False)[["parameters", "classes", "depth"]].max().reset_index()
    capacities = (
        medians.drop(columns=["at_least", "censored"]).merge(counted, on=network).assign(quantity=capacity.FITTED)
    )
    round_sizes = trials.groupby([*network, "round"], sort=True)[capacity.SIZE]
    sizes = (
        round_sizes.agg(estimate="median", low="min", high="max")
        .reset_index()
        .assign(quantity=capacity.REQUESTED, missing=0)
    )
    return pd.concat([capacities, sizes], ignore_index=True).merge(facts, on=network, how="left")


_COLUMNS = (
    "quantity", "model_width", "round", "parameters", "classes", "depth", "estimate", "low", "high", "seeds",
    "missing", "at_least", "at_most",
)  # fmt: skip

_INTERVAL = "Median over seeds of a seed's largest set; bars: the sign test's interval over seeds, not over sizes."

FIGURES = (
    figures.Figure(
        "fitted-by-width",
        "Random labels fitted, by width",
        partial(capacity.draw, x=capacity.WIDTH),
        "The largest set of random labels of which a network fits every one, found by bisection, the best over ways to "
        "train, with widths that Yun et al. (2019) prove, as reconstructed from secondary sources: those speak of the "
        f"worst set of examples, and random ones are easier. {_INTERVAL}",
        rows=frames.of_quantity(capacity.FITTED),
        axes=partial(capacity.axes, x=capacity.WIDTH),
    ),
    figures.Figure(
        "fitted-by-parameters",
        "Random labels fitted, by parameters",
        capacity.draw,
        f"The same against all trained parameters. Cover (1965) gives 2 labels a weight to a perceptron. {_INTERVAL}",
        rows=frames.of_quantity(capacity.FITTED),
        axes=capacity.axes,
    ),
    figures.Figure(
        "rounds",
        "How the search narrowed",
        partial(capacity.draw, quantity=capacity.REQUESTED, x="round"),
        "Sizes requested in each round: the median over seeds, bars from the smallest to the largest.",
        rows=frames.of_quantity(capacity.REQUESTED),
        axes=partial(capacity.axes, x="round"),
    ),
)
