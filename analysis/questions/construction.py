"""Do constructed weights hold every label, and in which precision? After Yun et al. 2019."""

from __future__ import annotations

import numpy as np
import pandas as pd

from memsweep.analysis.core import frames, series

QUERY = frames.TRIALS
HELD = "labels held (share)"
ERROR = "mean loss beyond that of one-hot outputs (nats)"


def with_measures(trials: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows with `held_share`, the share of labels that are predicted, and `error`, that of the mean loss.

    error: distance in nats from ln(1 + (K - 1) / e), the loss of exactly one-hot outputs.
    """
    loss = frames.share(trials["train_loss_sum_nats"], trials["train_count"])
    one_hot = np.log1p((trials["class_count"].astype(float) - 1) / np.e)
    return trials.assign(
        held_share=frames.share(trials["train_correct_count"], trials["train_count"]), error=(loss - one_hot).abs()
    )


def summarize(trials: pd.DataFrame) -> pd.DataFrame:
    """Returns labels held and the loss's error per size, classes and precision, over seeds.

    Returns quantity, examples, classes, precision, estimate, low, high, seeds, missing.
    """
    rows = with_measures(trials).assign(
        examples=trials["data_examples"], classes=trials["data_classes"], precision=trials["compute_dtype"]
    )
    return series.summarize(
        rows, {HELD: rows["held_share"], ERROR: rows["error"]}, ["examples", "classes", "precision"]
    )


FIGURES = tuple(
    series.figure(
        f"{classes}-classes",
        f"Labels held by constructed weights, {classes} classes",
        "Share of random labels that a network predicts whose weights were made, not trained: three hidden layers of "
        "2 sqrt(N) ReLU units, or 4K where that is more.",
        (HELD, "examples", "precision"),
        {"classes": classes},
        xscale="symlog",
        xlabel="random labels (N)",
        ylim=(0, 1.05),
    )
    for classes in (2, 10)
)
