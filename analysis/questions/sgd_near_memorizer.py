"""How far down, and how far away, does SGD go from beside weights of zero loss? After Yun et al. 2019."""

from __future__ import annotations

import pandas as pd

from memsweep.analysis.core import frames, series

QUERY = frames.CURVES
EPOCHS = 2
"""Epochs in which the claimed fall of the loss by a large factor occurs."""
LOSS = "mean loss (half squared error)"
DISTANCE = "largest distance (perturbations)"
LOSSES = {"start": "before training", "soon": f"least in {EPOCHS} epochs", "least": "least in the run"}
PLACE = ["seed", "perturbation"]


def of_seeds(curves: pd.DataFrame) -> pd.DataFrame:
    """Returns a row per seed and perturbation rho > 0, at the learning rate whose run reaches the least loss.

    Returns seed, perturbation, rate; start: loss of rate 0; soon, least: smallest loss measured in two epochs and in
    the whole run; farthest: largest distance measured, over rho. NaN where there is no result, or a rate's run has not
    ended.
    """
    wanted = curves.rename(columns={"model_perturbation": "perturbation", "optimizer_learning_rate": "rate"})
    rows = wanted[frames.usable(wanted)]
    loss = frames.share(rows["train_loss_sum_nats"], rows["train_count"])
    rows = rows.assign(loss=loss, far=frames.share(rows["distance"], rows["perturbation"])).dropna(subset="loss")
    trained, by = rows[rows["rate"] > 0], [*PLACE, "rate"]
    runs = trained.groupby(by).agg(least=("loss", "min"), farthest=("far", "max"))
    runs = runs.join(trained[trained["epoch"] <= EPOCHS].groupby(by)["loss"].min().rename("soon")).reset_index()
    best = runs.loc[runs.groupby(PLACE)["least"].idxmin()]
    start = rows[rows["rate"] == 0].groupby(PLACE)["loss"].min().rename("start").reset_index()
    absent = wanted.loc[~frames.settled(wanted), PLACE].drop_duplicates()
    best = best.merge(absent, how="left", on=PLACE, indicator="of")
    best = best[best["of"] == "left_only"].drop(columns="of")
    places = wanted[PLACE].drop_duplicates()
    return places.merge(start, how="left", on=PLACE).merge(best, how="left", on=PLACE)


def summarize(curves: pd.DataFrame) -> pd.DataFrame:
    """Returns losses, by `when`, and the largest distance per perturbation, over seeds.

    Returns quantity, perturbation, when, estimate, low, high, seeds, missing.
    """
    seeds = of_seeds(curves).assign(status=frames.USABLE[0])
    parts = [(LOSS, name, when) for name, when in LOSSES.items()] + [(DISTANCE, "farthest", "in the run")]
    summaries = [
        series.summarize(seeds.assign(when=when), {quantity: seeds[name]}, ["perturbation", "when"])
        for quantity, name, when in parts
    ]
    return pd.concat(summaries, ignore_index=True)


FIGURES = (
    series.figure(
        "loss",
        "SGD that starts near weights of zero loss",
        f"Loss before training, least loss in {EPOCHS} epochs, and least loss in the whole run, which is longer for "
        "smaller perturbations, at the best of several rates.",
        (LOSS, "perturbation", "when"),
        xscale="log",
        yscale="log",
        xlabel="length of the perturbation",
    ),
    series.figure(
        "distance",
        "Distance from weights of zero loss",
        "The largest distance that is measured in the same runs from the weights before their perturbation.",
        (DISTANCE, "perturbation", "when"),
        xscale="log",
        xlabel="length of the perturbation",
        ylim=(0, 2.1),
    ),
)
