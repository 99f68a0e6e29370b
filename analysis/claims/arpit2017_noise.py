"""How trials are called by their noise in the claims of Arpit et al. (2017), and what is asked along it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from analysis.claims.claim import MissingTrialsError
from analysis.core import frames
from analysis.questions import learning_curves
from analysis.questions.learning_curves import TRAIN, VALIDATION

KINDS = {"gaussian_inputs": "noise inputs", "labels": "random labels"}
NOISE = ("data_noise_kind", "data_noise_fraction")
CLEAN, NOISES = "clean", ("gaussian_inputs 1", "labels 1")
"""Real data, and data of which all examples are noise, as `with_noise` calls them."""


def with_noise(rows: pd.DataFrame) -> pd.DataFrame:
    """With a column `noise`: kind and fraction, or CLEAN."""
    pairs = zip(rows["data_noise_kind"], rows["data_noise_fraction"], strict=True)
    return rows.assign(noise=[f"{kind} {fraction:g}" if fraction else CLEAN for kind, fraction in pairs])


def fractions(found: pd.DataFrame, kind: str) -> list[str]:
    """The paper's partial fractions of a kind that are there, least noise first, as `with_noise` calls them."""
    named = [f"{kind} {fraction:g}" for fraction in (0.2, 0.4, 0.6, 0.8)]
    there = [noise for noise in named if noise in set(found["noise"])]
    if len(there) < 3:
        raise MissingTrialsError(f"fewer than 3 fractions of {KINDS[kind]} between 0.2 and 0.8")
    return there


def values(found: pd.DataFrame, noise: str, column: str) -> np.ndarray:
    """[S] of one noise, a seed each, in the order of seeds."""
    chosen = found[found["noise"] == noise].sort_values("seed")
    if chosen.empty:
        raise MissingTrialsError(f"no result with noise {noise}")
    return chosen[column].to_numpy(float)


def rank_correlation(x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray) -> float:
    """Spearman's; 0 where either is constant, since nothing rises then."""
    return 0.0 if np.ptp(x) == 0 or np.ptp(y) == 0 else float(stats.spearmanr(x, y).statistic)


def trend(found: pd.DataFrame, kind: str, column: str) -> np.ndarray:
    """[S] rank correlation of a column with the fraction of noise, of each seed that has all fractions."""
    table = found.pivot(index="seed", columns="noise", values=column)[fractions(found, kind)].dropna()
    return np.array([rank_correlation(np.arange(len(row)), row) for row in table.to_numpy(float)])


def shares(rows: pd.DataFrame) -> pd.DataFrame:
    """With the columns that `learning_curves.turns` reads."""
    named = {name: learning_curves.SHARES[name] for name in (VALIDATION, TRAIN)}
    return rows.assign(**{name: frames.share(rows[a], rows[b]) for name, (a, b) in named.items()})
