"""Names of noise, and trends along it, for the claims of Arpit et al. (2017)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from memsweep.analysis.claims.claim import MissingTrialsError
from memsweep.analysis.core import frames
from memsweep.analysis.questions import learning_curves
from memsweep.analysis.questions.learning_curves import TRAIN, VALIDATION

KINDS = {"gaussian_inputs": "noise inputs", "labels": "random labels"}
NOISE = ("data_noise_kind", "data_noise_fraction")
CLEAN, NOISES = "clean", ("gaussian_inputs 1", "labels 1")
"""Real data, and data of which all examples are noise, as named by `with_noise`."""


def with_noise(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows with a column `noise`: kind and fraction, or CLEAN."""
    pairs = zip(rows["data_noise_kind"], rows["data_noise_fraction"], strict=True)
    return rows.assign(noise=[f"{kind} {fraction:g}" if fraction else CLEAN for kind, fraction in pairs])


def fractions(rows: pd.DataFrame, kind: str) -> list[str]:
    """Returns the paper's partial fractions of a kind that the rows have, least noise first, as named by `with_noise`.

    Raises MissingTrialsError where fewer than 3 are stored.
    """
    named = [f"{kind} {fraction:g}" for fraction in (0.2, 0.4, 0.6, 0.8)]
    stored = [noise for noise in named if noise in set(rows["noise"])]
    if len(stored) < 3:
        raise MissingTrialsError(f"fewer than 3 fractions of {KINDS[kind]} between 0.2 and 0.8")
    return stored


def values(rows: pd.DataFrame, noise: str, column: str) -> np.ndarray:
    """Returns a column of one noise, [S], in the order of seeds. Raises MissingTrialsError where there are no rows."""
    chosen = rows[rows["noise"] == noise].sort_values("seed")
    if chosen.empty:
        raise MissingTrialsError(f"no result with noise {noise}")
    return chosen[column].to_numpy(float)


def rank_correlation(x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray) -> float:
    """Returns Spearman's correlation; 0 where x or y is constant."""
    return 0.0 if np.ptp(x) == 0 or np.ptp(y) == 0 else float(stats.spearmanr(x, y).statistic)


def by_fraction(rows: pd.DataFrame, kind: str, column: str) -> np.ndarray:
    """Returns a column by seed and fraction of noise, [S, fractions], least noise first; NaN where a seed lacks one."""
    named = fractions(rows, kind)
    return rows.pivot(index="seed", columns="noise", values=column)[named].to_numpy(float)


def shares(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows with the columns that `learning_curves.turns` reads."""
    named = {name: learning_curves.SHARES[name] for name in (VALIDATION, TRAIN)}
    return rows.assign(**{name: frames.share(rows[a], rows[b]) for name, (a, b) in named.items()})
