"""Data classes of a claim: its statement, source, trials, and the evidence measured on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import pandas as pd

from memsweep.analysis.core import frames


class Basis(StrEnum):
    """Source of a claim's statement."""

    CONFIRMED = "confirmed"
    ABSTRACT = "abstract only"
    RECONSTRUCTION = "reconstruction"
    EXTENSION = "extension"

    @property
    def meaning(self) -> str:
        """Returns the meaning of the basis, as shown to readers."""
        return _MEANINGS[self]


_MEANINGS = {
    Basis.CONFIRMED: "read in the paper itself",
    Basis.ABSTRACT: "read in the paper's abstract; how it was measured there is unknown",
    Basis.RECONSTRUCTION: "inferred from what could be read of the paper or of its neighbours",
    Basis.EXTENSION: "not of the paper: a consequence or a question of ours",
}


class MissingTrialsError(Exception):
    """A claim can't be tested yet; the message names the missing trials."""


class ImpossibleError(Exception):
    """A result that can't be true, such as a trained network that breaks a theorem: a bug of the program, not a
    verdict."""


@dataclass(frozen=True)
class Margin:
    """A quantity that exceeds a bound if the claim is true, one value a replicate.

    The claim holds where the median over replicates lies above `above`. 'Smaller' is written with a minus sign, 'equal
    within d' as two margins (d - x and d + x, each above 0: two one-sided tests).
    """

    what: str  # in words, with its unit
    values: np.ndarray  # [S], a replicate (seed) each; NaN: no result
    above: float = 0.0
    ideal: float | None = None  # value where the claim is true to the letter: of 'equal within d', d


@dataclass(frozen=True)
class Tested:
    """A quantity that exceeds a bound if the claim is true, with its own test, where replicates are not seeds."""

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
    """A statement without exceptions, such as a theorem: no chance enters, and there is no p-value."""

    what: str
    value: float
    holds: bool
    checked: int  # cases


@dataclass(frozen=True)
class Trend:
    """A quantity that rises along ordered settings if the claim is true: Page's test over replicates.

    A fall along the settings speaks against the claim. 'Falls' is written with a minus sign.
    """

    what: str  # in words, with its unit
    values: np.ndarray  # [S, n], a replicate (seed) a row, the settings in order; a replicate with a NaN is left out


Evidence = Margin | Trend | Tested | Fact


@dataclass(frozen=True)
class Claim:
    """A numbered claim of a paper. It holds when all evidence from `measure` holds (intersection-union).

    measure: rows of trials with these statuses -> evidence; raises MissingTrialsError.
    Controls: shuffled names columns to exchange between the trials of a seed, or one column to exchange between the
    times of a trial, to see how often chance alone gives a verdict; shuffled_whole exchanges all sizes of a network
    together, since a bisection's trials are one result. untrained names the columns that, with the trial
    and the step, identify a measurement: with every measurement replaced by that of the untrained network, the claim
    must not be reproduced. injected makes an effect in shuffled rows, where `controls.with_effect` can't make it in the
    evidence: that has a test of its own.
    """

    number: int
    statement: str
    basis: Basis
    test: str  # the statistic, its threshold, the threshold's source, and the replicates
    sweeps: tuple[str, ...]  # empty: the claim needs no trials, or no sweep has them
    measure: Callable[[pd.DataFrame], Sequence[Evidence]]
    rows: str = frames.TRIALS  # query of the measured rows, for each sweep
    shuffled: tuple[str, ...] = ()
    replicates: int = 10  # at least
    statuses: tuple[str, ...] = frames.USABLE  # of the trials whose rows count
    is_check: bool = False  # a theorem or an identity: a check of the program, counted apart from findings
    untrained: tuple[str, ...] = ()  # empty: no claim about training, or nothing was measured before training
    injected: Callable[[pd.DataFrame, np.random.Generator], pd.DataFrame] | None = None
    shuffled_whole: bool = False


@dataclass(frozen=True)
class Paper:
    """A paper's claims, which are tested together: Holm's correction is over all of them."""

    key: str  # arpit2017
    title: str
    caveat: str  # which parts of the paper could be read, in one sentence
    claims: tuple[Claim, ...]


def without_sweep(reason: str) -> Callable[[pd.DataFrame], Sequence[Evidence]]:
    """Returns the `measure` of a claim that no sweep decides yet; it raises MissingTrialsError with this reason."""

    def measure(rows: pd.DataFrame) -> Sequence[Evidence]:
        raise MissingTrialsError(reason)

    return measure


def within(what: str, difference: np.ndarray, margin: float) -> list[Evidence]:
    """Returns margins that a difference is 0 within a margin: two one-sided tests."""
    return [
        Margin(f"{margin:g} + ({what})", margin + difference, ideal=margin),
        Margin(f"{margin:g} - ({what})", margin - difference, ideal=margin),
    ]


def paired(frame: pd.DataFrame, value: str, column: str, more: object, less: object) -> np.ndarray:
    """Returns differences of `value` between two settings of a column, by seed: [S], the mean of each seed and setting.

    Raises MissingTrialsError where a setting has no rows.
    """
    by_seed = frame.pivot_table(index="seed", columns=column, values=value, aggfunc="mean", dropna=False)
    for setting in (more, less):
        if setting not in by_seed or by_seed[setting].isna().all():
            raise MissingTrialsError(f"no result with {frames.label({column: setting})}")
    return (by_seed[more] - by_seed[less]).to_numpy(float)
