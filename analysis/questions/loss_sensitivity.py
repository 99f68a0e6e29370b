"""Does the loss depend on few training examples or on all? Gini coefficients after Arpit et al. 2017, figure 3."""

from __future__ import annotations

import pandas as pd

from memsweep.analysis.core import frames, series

QUERY = frames.beside("loss_sensitivity", "b.step", "loss_sensitivity")
ALSO = ("class_sensitivity",)
"""Further analysis modules for the same trials."""

GINI, MEAN = "Gini coefficient of loss sensitivity", "mean loss sensitivity"
INPUTS = {"none": "real inputs", "gaussian_inputs": "random inputs"}


def summarize(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns both quantities, of L1 norms, per kind of inputs, label scheme and step, over seeds.

    rows: of the table `loss_sensitivity` with the fields of their trials (`frames.read`).
    Returns quantity, inputs, data_label_scheme, step, estimate, low, high, seeds, missing.
    """
    rows = rows.assign(inputs=rows["data_noise_kind"].map(INPUTS).fillna(rows["data_noise_kind"]))
    rows = series.at_every(rows, ["inputs", "data_label_scheme"], ["step"])
    return series.summarize(
        rows, {GINI: rows["gini_l1"], MEAN: rows["mean_l1"]}, ["inputs", "data_label_scheme", "step"]
    )


FIGURES = tuple(
    series.figure(
        f"{name}-{scheme}",
        f"{title}, {labels}",
        "Over training examples, of the L1 norm of the derivative of the mean training loss with respect to the "
        f"example's inputs, through all of training; mean over steps up to the one shown. {more}",
        (quantity, "step", "inputs"),
        {"data_label_scheme": scheme},
        xlabel="steps",
        **axis,
    )
    for scheme, labels in (("task", "ten classes"), ("unique", "a class for each example"))
    for name, title, quantity, more, axis in (
        ("gini", "How unequal examples are", GINI, "0: all are equal; 1: one has everything.", {"ylim": (0, None)}),
        ("mean", "How much examples matter", MEAN, "In nats by the inputs' unit.", {"yscale": "log"}),
    )
)
