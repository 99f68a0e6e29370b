"""How many labels do trained ReLU networks hold, beside what theorems say? After Yun et al. 2019."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from memsweep.analysis.core import figures, frames, series, statistics
from memsweep.analysis.core.arrangement import DEFAULT, View
from memsweep.analysis.questions import capacity

QUERY = frames.TRIALS
FITTED = "labels fitted (N)"
NETWORK = ["task", "depth", "width"]
GROWING_DEPTHS = (1, 2)
"""Hidden layers whose width is varied; deeper networks have widths that give them as many hidden weights."""


def largest(trials: pd.DataFrame) -> pd.DataFrame:
    """Returns a row per task, depth, width and seed: `fitted_size`, the largest set whose every label is fitted.

    If no set is fitted, fitted_size is the smallest that was tried; see `capacity.of_seed` for the other columns.
    """
    network = ["data_task", "model_depth", "model_width"]
    by_size = capacity.best_by_size(capacity.with_bits(trials), network)
    by_seed = statistics.by_group(by_size, [*network, "seed"], capacity.of_seed)
    return by_seed.rename(columns=dict(zip(network, NETWORK, strict=True)))


def summarize(trials: pd.DataFrame) -> pd.DataFrame:
    """Returns the largest set that is fitted per task, depth and width, over seeds.

    Returns quantity, task, depth, width, layers, is_equal, estimate, low, high, seeds, missing, at_least, at_most.
    """
    summary = capacity.estimated(largest(trials), NETWORK, "fitted_size", ["at_least", "at_most"])
    layers = summary["depth"].map(lambda depth: f"{depth} hidden layer{'s' * (depth > 1)}")
    return summary.assign(quantity=FITTED, layers=layers, is_equal=have_equal_weights(summary))


def have_equal_weights(networks: pd.DataFrame) -> pd.Series[bool]:
    """Returns which networks on random labels have as many weights between hidden layers, to 5 %, as the deepest one.

    networks: with task, depth and width.
    """
    weights = (networks["depth"] - 1) * networks["width"] ** 2
    wanted = weights[networks["depth"] == networks["depth"].max()].max()
    is_near: pd.Series[bool] = (weights - wanted).abs() <= 0.05 * wanted
    return is_near & (networks["task"] == "gaussian")


def draw(summary: pd.DataFrame, ax: Axes, task: str, view: View = DEFAULT) -> Axes:
    """Draws the largest set that is fitted against the width, a curve a depth, with lines of theory."""
    shown = summary[summary["depth"].isin(GROWING_DEPTHS)]
    axis = {"xscale": "log", "yscale": "log", "xlabel": "hidden units a layer (d)"}
    return series.draw(shown, ax, WHAT, {"task": task}, axis, view, is_power=True, lines=partial(_theory, task=task))


def _theory(ax: Axes, rows: pd.DataFrame, x: str, task: str) -> None:
    """Draws lines of theory along the width."""
    for name, dashes, labels in _LINES[: len(_LINES) if task == "alternating" else 1] if x == "width" else ():
        widths = np.sort(rows["width"].unique())
        figures.reference(ax, widths, labels(widths), name, dashes)


_LINES: tuple[tuple[str, str, Callable[[np.ndarray], np.ndarray]], ...] = (
    ("d²/4: by construction, 2 layers", "-.", lambda d: d**2 / 4),
    ("d + 2: most, 1 layer", "--", lambda d: d + 2),
    ("(d + 1)² + 1: most, 2 layers", ":", lambda d: (d + 1) ** 2 + 1),
)
WHAT = (FITTED, "width", "layers")


def _figure(task: str, title: str, note: str) -> figures.Figure:
    return figures.Figure(
        task,
        title,
        partial(draw, task=task),
        f"{note} A network that fits no set stands at the smallest that was tried. {series.POWER}{series.OVER_SEEDS}",
        rows=frames.of_quantity(FITTED, task=task),
        axes=partial(series.keys, what=WHAT, selection={"task": task}),
    )


FIGURES = (
    _figure(
        "gaussian",
        "Random labels fitted by trained networks",
        "The largest set of random labels of which every label is fitted. The line: labels that a construction holds "
        "of any set.",
    ),
    _figure(
        "alternating",
        "Alternating labels fitted by trained networks",
        "The same for evenly spaced points of a line whose labels alternate. Beyond the upper lines a network has "
        "too few linear pieces.",
    ),
    series.figure(
        "depth",
        "Random labels fitted at equal hidden weights",
        "Two to five hidden layers with about 576 weights between hidden layers (the sweep's widths 24, 17, 14, 12).",
        (FITTED, "depth", "task"),
        {"is_equal": True},
        xlabel="hidden layers",
        ylim=(0, None),
    ),
)
