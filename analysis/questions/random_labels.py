"""How long until all labels are fitted, and what of the test labels then? By what is random (Zhang et al. 2017)."""

from __future__ import annotations

import pandas as pd

from memsweep.analysis.core import figures, frames, series

QUERY = frames.TRIALS
EPOCHS, TEST_ERROR = "epochs to fit all labels", "test error"
KIND, FRACTION = "data_noise_kind", "data_noise_fraction"


def epochs(trials: pd.DataFrame) -> pd.Series[float]:
    """Returns passes over the training set until every label was first measured as fitted; NaN: never in the budget."""
    return trials["fitted_step"].astype(float) * trials["optimizer_batch_size"] / trials["data_examples"]


def error(trials: pd.DataFrame, part: str) -> pd.Series[float]:
    """Returns the share of a part's labels that is not predicted at the end."""
    return 1 - frames.share(trials[f"{part}_correct_count"], trials[f"{part}_count"])


def summarize(trials: pd.DataFrame) -> pd.DataFrame:
    """Returns epochs to fit and test error per kind and share of noise; true labels are repeated for every kind.

    Returns quantity, kind, fraction, estimate, low, high, seeds, missing.
    """
    rows = trials.assign(kind=trials[KIND].str.replace("_", " "), fraction=trials[FRACTION])
    is_true = rows["kind"] == "none"
    kinds = rows.loc[~is_true, "kind"].unique()
    rows = pd.concat([rows[~is_true], *(rows[is_true].assign(kind=kind) for kind in kinds)], ignore_index=True)
    return series.summarize(rows, {EPOCHS: epochs(rows), TEST_ERROR: error(rows, "test")}, ["kind", "fraction"])


_NOTE = "An MLP with more parameters than it needs, trained until it fits all labels, with the same settings for all."

FIGURES: tuple[figures.Figure, ...] = tuple(
    series.figure(
        name,
        title,
        f"{_NOTE} Share 0: true labels and inputs.",
        (quantity, "fraction", "kind"),
        xlabel="random examples (share)",
        ylim=(0, None),
    )
    for name, title, quantity in (
        ("epochs", "Epochs to fit all labels, by what is random", EPOCHS),
        ("test-error", "Test error of networks that fit all labels", TEST_ERROR),
    )
)
