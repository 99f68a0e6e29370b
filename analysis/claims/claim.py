"""What a claim is: its words, where they come from, the trials it needs, and what is measured on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import pandas as pd

from analysis.core import frames


class Basis(StrEnum):
    """Where a claim's statement comes from."""

    CONFIRMED = "confirmed"
    ABSTRACT = "abstract only"
    RECONSTRUCTION = "reconstruction"
    EXTENSION = "extension"

    @property
    def meaning(self) -> str:
        return _MEANINGS[self]


_MEANINGS = {
    Basis.CONFIRMED: "read in the paper itself",
    Basis.ABSTRACT: "read in the paper's abstract; how it was measured there is not known",
    Basis.RECONSTRUCTION: "inferred from what could be read of the paper or of its neighbours",
    Basis.EXTENSION: "not of the paper: a consequence or a question of ours",
}


class MissingTrialsError(Exception):
    """Why a claim can't be tested yet: which trials are not there."""


class ImpossibleError(Exception):
    """What cannot be, such as a trained network that breaks a theorem: an error of the program, and no verdict."""


@dataclass(frozen=True)
class Margin:
    """One thing that the claim says is larger than a bound, one value a replicate.

    The claim holds where the median over replicates lies above `above`. 'Smaller' is written with a minus sign, 'equal
    within d' as two margins (d - x and d + x, each above 0: two one-sided tests).
    """

    what: str  # in words, with its unit
    values: np.ndarray  # [S], a replicate (seed) each; NaN: no result
    above: float = 0.0


@dataclass(frozen=True)
class Tested:
    """One thing that the claim says is larger than a bound, with a test of its own, where replicates are not seeds."""

    what: str
    estimate: float
    low: float  # interval at 95 %
    high: float
    p: float  # of data at least so favourable if the claim is false
    p_against: float  # of data at least so unfavourable if it is true
    replicates: int
    above: float = 0.0


@dataclass(frozen=True)
class Fact:
    """One thing that must hold without exception, such as a theorem: no chance enters, and no p-value."""

    what: str
    value: float
    holds: bool
    checked: int  # cases


Evidence = Margin | Tested | Fact


@dataclass(frozen=True)
class Claim:
    """A numbered claim of a paper. It holds when all that `measure` returns holds (intersection-union).

    measure: rows of trials with these statuses -> what is to be shown; raises MissingTrialsError.
    shuffled: columns that are exchanged between the trials of a seed, or one that is exchanged between the times of a
    trial, to see how often chance alone gives a verdict; none for facts.
    """

    number: int
    statement: str
    basis: Basis
    test: str  # the statistic, its threshold, whose threshold that is, and over what it is tested
    sweeps: tuple[str, ...]  # none: it needs no trials, or no sweep has them
    measure: Callable[[pd.DataFrame], Sequence[Evidence]]
    rows: str = frames.TRIALS  # the query of what is measured on, for each sweep
    shuffled: tuple[str, ...] = ()
    replicates: int = 10  # at least
    statuses: tuple[str, ...] = frames.USABLE  # of the trials whose rows count


@dataclass(frozen=True)
class Paper:
    """A paper's claims, which are tested together: Holm's correction is over all of them."""

    key: str  # arpit2017
    title: str
    caveat: str  # what of the paper could be read, in one sentence
    claims: tuple[Claim, ...]


def unasked(reason: str) -> Callable[[pd.DataFrame], Sequence[Evidence]]:
    """The `measure` of a claim that no sweep decides yet."""

    def measure(rows: pd.DataFrame) -> Sequence[Evidence]:
        raise MissingTrialsError(reason)

    return measure


def paired(frame: pd.DataFrame, value: str, column: str, more: object, less: object) -> np.ndarray:
    """Differences of `value` between two settings of a column, by seed: [S]. Rows of a seed and setting are averaged.

    Raises MissingTrialsError where a setting has no rows.
    """
    by_seed = frame.pivot_table(index="seed", columns=column, values=value, aggfunc="mean", dropna=False)
    for setting in (more, less):
        if setting not in by_seed or by_seed[setting].isna().all():
            raise MissingTrialsError(f"no result with {frames.label({column: setting})}")
    return (by_seed[more] - by_seed[less]).to_numpy(float)
