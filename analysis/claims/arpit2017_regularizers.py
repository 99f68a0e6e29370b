"""Evidence for the claims of Arpit et al. (2017) on regularizers: functions from a claim's rows to its parts."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from memsweep.analysis.claims.arpit2017_noise import shares
from memsweep.analysis.claims.claim import Margin, MissingTrialsError, paired
from memsweep.analysis.core import frames, statistics
from memsweep.analysis.questions import learning_curves, regularization
from memsweep.analysis.questions.learning_curves import FIT, TRAIN, VALIDATION

DROPOUT, BOTH = "dropout", "dropout + adversarial"
TOLERANCE = 0.01
"""Share of accuracy kept by which a regularizer may be worse and still count as not less."""
REGULARIZERS = tuple(
    f"regularization_{name}"
    for name in ("dropout", "input_dropout", "input_noise", "hidden_noise", "weight_decay", "adversarial")
)
"""Columns that identify a regularizer and its strength."""
CAP = 0.5
"""Share of random labels that may be fitted: one cap, so that a claim of few parts can be contradicted."""


def _is_random(rows: pd.DataFrame) -> pd.Series[bool]:
    """Returns which rows belong to trials on random labels; the remaining trials have true labels.

    Raises MissingTrialsError where either kind is missing.
    """
    is_random = rows["data_noise_fraction"] == 1
    if is_random.all() or not is_random.any():
        raise MissingTrialsError("no trials on both true and random labels")
    return is_random


def _retained(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the share of each regularizer's best clean validation accuracy that is kept below CAP, by seed.

    No regularizer counts as strength 0 of each; a regularizer that stays above it at every strength keeps nothing.
    """
    named, keys = regularization.named(rows), ["seed", "regularizer", "strength"]
    random = _is_random(named)
    fitted = frames.share(named["train_correct_count"], named["train_count"])
    clean = frames.share(named["validation_correct_count"], named["validation_count"])
    points = named.assign(fitted=fitted.where(random), clean=clean.where(~random))
    points = points.groupby(keys)[["fitted", "clean"]].mean().dropna().reset_index()
    rows_kept = []
    for seed, seed_points in points.groupby("seed"):
        none = seed_points["regularizer"] == regularization.NONE
        for name in sorted(set(seed_points.loc[~none, "regularizer"])):
            along = seed_points[none | (seed_points["regularizer"] == name)]
            kept = along.loc[along["fitted"] <= CAP, "clean"].max() / along["clean"].max()
            rows_kept.append({"seed": seed, "regularizer": name, "kept": np.nan_to_num(kept)})
    return pd.DataFrame(rows_kept, columns=["seed", "regularizer", "kept"])


def dropout_keeps_most(rows: pd.DataFrame) -> list[Margin]:
    """Returns accuracy kept below CAP: dropout less each other regularizer, and adversarial training's gain."""
    kept = _retained(rows)
    others = sorted(set(kept["regularizer"]) - {DROPOUT, BOTH})
    comparisons = [*((DROPOUT, other, 0.0) for other in others), (BOTH, DROPOUT, -TOLERANCE)]
    return [
        Margin(
            f"share of clean accuracy kept while at most {CAP:.0%} of random labels are fitted, {more} - {less}",
            paired(kept, "kept", "regularizer", more, less),
            bound,
        )
        for more, less, bound in comparisons
    ]


def slowed(rows: pd.DataFrame) -> list[Margin]:
    """Returns how much more regularizers slow down random than real labels, and how alike seeds order the settings."""
    named = regularization.named(shares(rows))
    keys = ["regularizer", "strength", "seed"]
    is_random = _is_random(named)
    named = named[[*keys, "epoch", "train_loss_sum_nats", "train_count", VALIDATION, TRAIN]]  # cheap to group
    sides = {
        side: statistics.by_group(named[which], keys, _course).set_index(keys)
        for side, which in (("random", is_random), ("real", ~is_random))
    }
    return [
        Margin("rise of epochs to fit 90 % (log, mean over regularizers), random - real", _rise_of_time(**sides)),
        Margin(
            "agreement (Kendall) of a seed's order of settings by loss with other seeds', on real - on random labels",
            _agreement(**sides),
        ),
    ]


def _course(curve: pd.DataFrame) -> dict[str, float]:
    turns, last = learning_curves.turns(curve), int(curve["epoch"].to_numpy(float).argsort()[-1])
    loss, count, clean = (
        curve[name].to_numpy(float)[last] for name in ("train_loss_sum_nats", "train_count", VALIDATION)
    )
    return {"time": turns[FIT], "censored": turns["censored"], "clean": clean, "loss": loss / count}


def _rise_of_time(random: pd.DataFrame, real: pd.DataFrame) -> np.ndarray:
    """Returns [S]: log(T / T without), random - real labels, of each regularizer's strength that validates best.

    A training on random labels that never fits counts with its length, which is less than the truth; a training on real
    labels or without regularizer that never fits has no result.
    """
    clean = real.groupby(["regularizer", "strength"])["clean"].mean().drop(regularization.NONE, errors="ignore")
    log_real = np.log(real["time"]).where(real["censored"] == 0).unstack("seed")
    log_random = np.log(random["time"]).unstack("seed")
    none = (regularization.NONE, 0.0)
    if none not in log_real.index or none not in log_random.index or clean.empty:
        raise MissingTrialsError("no trials with and without a regularizer")
    without = np.log(random["time"]).where(random["censored"] == 0).unstack("seed").loc[none] - log_real.loc[none]
    best = list(clean.groupby("regularizer").idxmax())
    return np.asarray(((log_random - log_real).reindex(best) - without).mean(), float)


def _agreement(random: pd.DataFrame, real: pd.DataFrame) -> np.ndarray:
    """Returns [S]: agreement of a seed's order of settings by loss with other seeds' mean order, real - random."""
    losses = {name: side["loss"].unstack("seed") for name, side in (("random", random), ("real", real))}
    differences = []
    for seed in losses["real"]:
        loss = losses["real"][seed]
        agreed = [
            stats.kendalltau(
                loss,
                losses[name].drop(columns=seed, errors="ignore").mean(axis=1).reindex(loss.index),
                nan_policy="omit",
            ).statistic
            for name in ("real", "random")
        ]
        differences.append(agreed[0] - agreed[1])
    return np.array(differences, float)
