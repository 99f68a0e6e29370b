"""How large a set of random labels does a network of fixed width fit? After Yun et al. 2019."""

from __future__ import annotations

import pandas as pd

from memsweep.analysis.core import figures, frames, series, statistics
from memsweep.analysis.questions import capacity

QUERY = frames.TRIALS
FITTED = "labels fitted (N)"
BLOCKS = ("classes", "dimension", "activation")
SETTING = ["block", "classes", "dimension", "activation", "depth", "width"]


def largest(trials: pd.DataFrame) -> pd.DataFrame:
    """Returns a row per setting and seed: `fitted_size`, the largest set whose every label is fitted.

    Returns SETTING (block: which of the sweep's BLOCKS), seed, fitted_size, at_least, at_most and the other columns of
    `capacity.of_seed`.  fitted_size is NaN for a seed that fits the largest set that it was given (at_least) or none
    (at_most): its largest set lies beyond the sizes.
    """
    rows = capacity.with_bits(trials).assign(
        block=[_block(*row) for row in zip(trials["optimizer_objective"], trials["model_depth"], strict=True)]
    )
    columns = {
        "block": "block",
        "data_classes": "classes",
        "data_input_dim": "dimension",
        "model_activation": "activation",
        "model_depth": "depth",
        "model_width": "width",
    }
    by_size = capacity.best_by_size(rows, list(columns)).drop(columns=["classes", "depth", "width"])
    by_seed = statistics.by_group(by_size.rename(columns=columns), [*SETTING, "seed"], capacity.of_seed)
    is_inside = (by_seed["at_least"] == 0) & (by_seed["at_most"] == 0)
    return by_seed.assign(fitted_size=by_seed["fitted_size"].where(is_inside))


def summarize(trials: pd.DataFrame) -> pd.DataFrame:
    """Returns the largest set that is fitted per block and setting, over seeds.

    Returns quantity, block, classes, dimension, activation, depth, width, layers, estimate, low, high, seeds, missing,
    at_least, at_most (seeds whose largest set lies beyond the sizes, counted as missing).
    """
    summary = capacity.estimated(largest(trials), SETTING, "fitted_size", ["at_least", "at_most"])
    layers = [f"{depth} hidden layer{'s' * (depth > 1)}" for depth in summary["depth"]]
    summary.insert(len(SETTING), "layers", layers)
    return summary.assign(quantity=FITTED)


def _block(objective: str, depth: int) -> str:
    if objective == "squared":
        return "classes"
    return "dimension" if depth == 1 else "activation"


_AXIS = {"xscale": "log", "yscale": "log"}
_NOTE = (
    "The largest set of random labels of which a network fits every one, found by bisection. Seeds that fit the "
    "largest set, or none, are missing."
)

FIGURES: tuple[figures.Figure, ...] = (
    series.power(
        "classes",
        "Random labels fitted by classes",
        f"{_NOTE} 16 units a layer, trained on squares of one-hot answers.",
        (FITTED, "classes", "layers"),
        {"block": "classes"},
        xlabel="classes (K)",
        **_AXIS,
    ),
    series.power(
        "dimension",
        "Random labels fitted by input dimension",
        f"{_NOTE} One hidden layer of 4 units.",
        (FITTED, "dimension", "layers"),
        {"block": "dimension"},
        xlabel="inputs (D)",
        **_AXIS,
    ),
    series.figure(
        "activation",
        "Random labels fitted by nonlinearity",
        f"{_NOTE} Two hidden layers of 12 units; by construction hard-tanh holds four times what ReLU does.",
        (FITTED, "activation", "layers"),
        {"block": "activation"},
        xlabel="nonlinearity",
        ylim=(0, None),
    ),
)
