"""How few units a layer still fit all of a set of random labels? After Yun et al. 2019."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from memsweep.analysis.core import figures, frames, series, statistics

QUERY = frames.TRIALS
WIDTH = "least width that fits (units a layer)"
BLOCKS = ("classes", "dimension", "activation")
SETTING = ["block", "classes", "dimension", "activation", "depth"]


def least(trials: pd.DataFrame) -> pd.DataFrame:
    """Returns the least width that fits, by block, classes, input dimension, nonlinearity, hidden layers and seed.

    width: the smallest that fits every label; NaN if no width fits, if the smallest width of the sweep fits (a smaller
    one might too), or if a narrower width has no result.  at_least: 1 if no width fits.
    """
    good = frames.usable(trials)
    rows = trials.assign(
        block=[_block(*row) for row in zip(trials["optimizer_objective"], trials["model_depth"], strict=True)],
        classes=trials["data_classes"],
        dimension=trials["data_input_dim"],
        activation=trials["model_activation"],
        depth=trials["model_depth"],
        fits=trials["fitted_step"].notna() & good,
        has_result=good,
    )
    return statistics.by_group(rows, [*SETTING, "seed"], _of_seed)


def summarize(trials: pd.DataFrame) -> pd.DataFrame:
    """Returns the least width per block and setting, over seeds.

    Returns quantity, block, classes, dimension, activation, depth, layers, estimate, low, high, seeds, missing.
    """
    widths = least(trials).assign(status=frames.USABLE[0])
    summary = series.summarize(widths, {WIDTH: widths["width"]}, SETTING)
    return summary.assign(layers=[f"{depth} hidden layer{'s' * (depth > 1)}" for depth in summary["depth"]])


def draw_by_activation(summary: pd.DataFrame, ax: Axes) -> Axes:
    """Draws the least width of each nonlinearity."""
    shown = summary[summary["block"] == "activation"]
    names = sorted(shown["activation"].unique())
    axis = {"xlabel": "nonlinearity", "ylim": (0, None)}
    placed = shown.assign(place=shown["activation"].map(names.index))
    series.draw(placed, ax, (WIDTH, "place", "layers"), {}, axis)
    if ax.lines:
        figures.grid_ticks(ax.xaxis, range(len(names)), names)
        for line in ax.lines:
            line.set_linestyle("none")  # names have no order
        ax.margins(x=0.3)
    return ax


def _block(objective: str, depth: int) -> str:
    if objective == "squared":
        return "classes"
    return "dimension" if depth == 1 else "activation"


def _of_seed(rows: pd.DataFrame) -> dict[str, Any]:
    ordered = rows.sort_values("model_width")
    if not ordered["fits"].any():
        return {"width": float("nan"), "at_least": int(ordered["has_result"].all())}
    place = int(ordered["fits"].to_numpy().argmax())
    is_seen = place > 0 and ordered["has_result"].iloc[:place].all()
    return {"width": float(ordered["model_width"].iloc[place]) if is_seen else float("nan"), "at_least": 0}


_AXIS = {"xscale": "log", "yscale": "log"}
_NOTE = (
    "The narrowest network that fits each of 128 random labels. Seeds whose widest does not fit, or narrowest "
    "does, are missing."
)

FIGURES: tuple[figures.Figure, ...] = (
    series.power(
        "classes",
        "Least width by classes",
        f"{_NOTE} Trained on squares of one-hot answers.",
        (WIDTH, "classes", "layers"),
        {"block": "classes"},
        xlabel="classes (K)",
        **_AXIS,
    ),
    series.power(
        "dimension",
        "Least width by input dimension",
        f"{_NOTE} One hidden layer.",
        (WIDTH, "dimension", "layers"),
        {"block": "dimension"},
        xlabel="inputs (D)",
        **_AXIS,
    ),
    figures.Figure(
        "activation",
        "Least width by nonlinearity",
        draw_by_activation,
        f"{_NOTE} Two hidden layers. {series.OVER_SEEDS}",
        rows=figures.of_quantity(WIDTH, block="activation"),
    ),
)
