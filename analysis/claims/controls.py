"""Controls of a claim's test that repeat it: how often chance alone passes it, and how often an effect does."""

from __future__ import annotations

from typing import NamedTuple

import joblib
import numpy as np
import pandas as pd

from memsweep.analysis.claims import nulls
from memsweep.analysis.claims.claim import Claim, MissingTrialsError, Tested
from memsweep.analysis.claims.designs import ALPHA, level
from memsweep.analysis.claims.verdicts import Read, as_tested, combined, gathered, papers
from memsweep.spec.processors import allotted

SHUFFLES = 200
EFFECT = 3.0
"""Size of the injected effect, in standard deviations between replicates; see `nulls.with_effect`."""


class Rates(NamedTuple):
    """Shares of repetitions in which a claim's test is passed; NaN where a control doesn't apply."""

    by_chance: float  # after shuffles, uncorrected
    power: float  # with an injected effect, after the correction over all findings of the paper


def rates(read: Read, shuffles: int) -> dict[tuple[str, int], Rates]:
    """Returns (paper, claim) -> rates over as many repetitions, of findings whose trials are stored.

    Claims run in parallel, each with its own generators, so that its rates don't depend on other claims.
    """
    findings = {paper.key: [claim for claim in paper.claims if not claim.is_check] for paper in papers()}
    stored = {(key, claim.number): claim for key, of_paper in findings.items() for claim in of_paper}
    stored = {key: claim for key, claim in stored.items() if _has_rows(claim, read)}
    measured = joblib.Parallel(n_jobs=allotted())(
        joblib.delayed(_rates)(claim, gathered(claim, read), [number, *paper.encode()], shuffles, len(findings[paper]))
        for (paper, number), claim in stored.items()
    )
    return dict(zip(stored, measured, strict=True))


def _rates(claim: Claim, rows: pd.DataFrame, seed: list[int], shuffles: int, findings: int) -> Rates:
    chance, effect = (np.random.default_rng([*seed, purpose]) for purpose in (0, 1))
    by_chance = reproduced_by_chance(claim, rows, chance, shuffles) if claim.shuffled else np.nan
    try:
        return Rates(by_chance, power(claim, rows, effect, shuffles, findings))
    except MissingTrialsError:
        return Rates(by_chance, np.nan)


def _has_rows(claim: Claim, read: Read) -> bool:
    try:
        gathered(claim, read)
    except MissingTrialsError:
        return False
    return True


def reproduced_by_chance(
    claim: Claim, rows: pd.DataFrame, generator: np.random.Generator, shuffles: int = SHUFFLES
) -> float:
    """Returns the share of shuffles in which the claim would be reproduced, uncorrected.

    The share is at most about ALPHA for a valid test.
    """
    hits = 0
    for _ in range(shuffles):
        try:
            parts = [as_tested(part) for part in claim.measure(_exchanged(claim, rows, generator))]
        except MissingTrialsError:
            continue
        hits += combined(parts)["p"] <= ALPHA
    return hits / shuffles


def power(
    claim: Claim,
    rows: pd.DataFrame,
    generator: np.random.Generator,
    repetitions: int = SHUFFLES,
    findings: int = 1,
    size: float = EFFECT,
) -> float:
    """Returns the share of repetitions in which the claim is reproduced where an effect was injected.

    The p-value is corrected as that of the paper's smallest: times the number of its findings. A claim with `injected`
    has its effect made in shuffled rows; others have it in every part of their evidence, `size` large, or, for a number
    that equals another within a margin, as large as equality. NaN where evidence has a test of its own and the claim
    has no `injected`.
    """
    if claim.injected is None:
        evidence = claim.measure(rows)
        if any(isinstance(part, Tested) for part in evidence):
            return np.nan
    hits = 0
    for _ in range(repetitions):
        if claim.injected is None:
            seed = generator.integers(2**63)  # the same replicates of every part
            parts = [as_tested(nulls.with_effect(part, size, np.random.default_rng(seed))) for part in evidence]
        else:
            base = _exchanged(claim, rows, generator) if claim.shuffled else rows
            changed = claim.injected(base, generator)
            parts = [as_tested(part) for part in claim.measure(changed)]
        hits += combined(parts)["p"] * findings <= level(claim)
    return hits / repetitions


def _exchanged(claim: Claim, rows: pd.DataFrame, generator: np.random.Generator) -> pd.DataFrame:
    return nulls.shuffled(rows, claim.shuffled, generator, is_whole=claim.shuffled_whole)
