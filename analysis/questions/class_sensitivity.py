"""Do classes depend on each other's examples? Loss sensitivity by class, after Arpit et al. 2017, figure 4."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from memsweep.analysis.core import figures, frames, series, statistics
from memsweep.analysis.questions.loss_sensitivity import INPUTS

QUERY = frames.beside("class_sensitivity", "b.output_class, b.input_class", "class_sensitivity")


def summarize(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns sensitivity per kind of inputs and pair of classes, as a share of the trial's whole map, mean over seeds.

    rows: of the table `class_sensitivity` with the fields of their trials (`frames.read`).
    Returns inputs, output_class, input_class, estimate, low, high, seeds, missing.
    """
    rows = rows.assign(inputs=rows["data_noise_kind"].map(INPUTS).fillna(rows["data_noise_kind"]))
    rows = series.at_every(rows, ["inputs"], ["output_class", "input_class"])
    whole = rows.groupby("trial_id")["gradient_l1"].transform("sum")
    shares = (rows["gradient_l1"] / whole).where(frames.usable(rows))
    named = rows.assign(share=shares).astype({"output_class": int, "input_class": int})
    return statistics.over_seeds(named, ["inputs", "output_class", "input_class"], "share")


def draw(summary: pd.DataFrame, ax: Axes, inputs: str = "real inputs") -> Axes:
    """Draws the map of one kind of inputs, in a logarithmic scale."""
    chosen = summary[summary["inputs"] == inputs]
    if chosen["estimate"].isna().all():
        return figures.empty(ax, f"no finished trial with {inputs}")
    shares = chosen.pivot(index="output_class", columns="input_class", values="estimate")
    named = "share of the map (log10)"
    rows, columns = (np.arange(size + 1) - 0.5 for size in shares.shape)
    image = ax.pcolormesh(columns, rows, np.log10(shares.to_numpy(float)), cmap="viridis", label=named)
    ax.figure.colorbar(image, ax=ax, label=named)
    ax.set_aspect("equal")
    ax.invert_yaxis()
    ax.set(xlabel="class of the inputs", ylabel="class of the loss")
    figures.grid_ticks(ax.xaxis, range(shares.shape[1]), [str(name) for name in shares.columns])
    figures.grid_ticks(ax.yaxis, range(shares.shape[0]), [str(name) for name in shares.index])
    ax.grid(False)
    return ax


def _figure(kind: str, inputs: str) -> figures.Figure:
    return figures.Figure(
        inputs.replace(" ", "-"),
        f"Which classes the loss depends on, {inputs}",
        lambda summary, ax: draw(summary, ax, inputs),
        "How the part of the mean training loss that belongs to a class (rows) depends on training inputs of a class "
        "(columns), through all of training: L1 norm, as a share of the whole map. Mean over seeds.",
        rows=lambda summary: summary[summary["inputs"] == inputs],
        only={"data_noise_kind": kind},
        fixed="classes run along both axes",
    )


FIGURES = tuple(_figure(kind, inputs) for kind, inputs in INPUTS.items())
