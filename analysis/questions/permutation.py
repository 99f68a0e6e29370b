"""Has a network learned, memorized, or both? After Chaibub Neto 2018; how it is measured is a reconstruction."""

from __future__ import annotations

import pandas as pd

from memsweep.analysis.core import frames, series

QUERY = frames.beside("permutations", "b.step, b.features, b.validation, b.rho", "permutations")
AMOUNT = "memorization M"
LEARNED = "area of the labels"
RHO = 0.95
"""Correlation of the copies in figures and in tests of claims: the nearest copies."""
SETTING = ["model_family", "model_width", "regularization_dropout", "data_noise_kind", "data_noise_fraction"]


def amount(rows: pd.DataFrame) -> pd.Series[float]:
    """Returns M: how much better permuted labels are predicted than the class alone allows.

    M = 2 (median area - area of features that hold the class alone); at most 1 where these features are uninformative.
    """
    return 2 * (rows["null_median"] - rows["floor_auc"])


def summarize(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns M and the area under the curve of the labels per setting, features, validation set and step, over seeds.

    rows: of the table `permutations` with the fields of their trials (`frames.read`).
    Returns quantity, noise in words, the fields of SETTING, features, validation, rho (NaN: held out), step, estimate,
    low, high, seeds, missing, is_end.
    """
    kind, fraction = rows["data_noise_kind"].str.replace("_", " "), rows["data_noise_fraction"]
    rows = rows.assign(noise=kind.where(kind == "none", fraction.map("{:.0%} ".format).astype(str) + kind))
    rows = series.at_every(rows, ["noise", *SETTING], ["step", "features", "validation", "rho"])
    quantities = {AMOUNT: amount(rows).where(rows["validation"] == "copies"), LEARNED: rows["observed_auc"]}
    by = ["noise", *SETTING, "features", "validation", "rho", "step"]
    summary = series.summarize(rows, {name: values.astype(float) for name, values in quantities.items()}, by)
    return summary.assign(is_end=summary["step"] == summary["step"].max())


_HIDDEN = {"features": "hidden", "regularization_dropout": 0.0}
_NEAR = {**_HIDDEN, "validation": "copies", "rho": RHO}
_STEPS = {"xscale": "symlog", "xlabel": "steps"}
_M = (
    "M: how much better permuted labels are predicted than the class alone allows, as an area under the curve, doubled."
)
_FAMILIES = (("mlp", 64, "MLP"), ("cnn", 16, "convolutional network"))

FIGURES = (
    *(
        series.figure(
            f"memorization-{family}",
            f"Memorization along training, {name}",
            f"{_M} On copies with correlation {RHO:g}. Step 0 is the untrained network. Curves: noise in training.",
            (AMOUNT, "step", "noise"),
            {"model_family": family, "model_width": width, **_NEAR},
            **_STEPS,
        )
        for family, width, name in _FAMILIES
    ),
    *(
        series.figure(
            f"learning-{family}",
            f"Held-out examples along training, {name}",
            "Area under the curve of a linear classifier of the last hidden layer, fitted with the true labels. "
            "Real images, whatever the network was trained on. Curves: noise in the network's training set.",
            (LEARNED, "step", "noise"),
            {"model_family": family, "model_width": width, **_HIDDEN, "validation": "held_out"},
            **_STEPS,
        )
        for family, width, name in _FAMILIES
    ),
    series.figure(
        "copies",
        "Memorization by how near copies are, at the end, MLP",
        f"{_M} Copies with correlation 0 share nothing with the training set: there, M is below 0. Curves: noise.",
        (AMOUNT, "rho", "noise"),
        {"model_family": "mlp", "model_width": 64, **_HIDDEN, "validation": "copies", "is_end": True},
        xlabel="correlation of copies",
    ),
    series.figure(
        "widths",
        "Memorization of random labels along training, by width, MLP",
        f"{_M} On copies with correlation {RHO:g}. With more units, labels are predicted better before training, too.",
        (AMOUNT, "step", "model_width"),
        {"model_family": "mlp", "noise": "100% labels", **_NEAR},
        **_STEPS,
    ),
)
