"""Rate at which chance alone makes a claim `reproduced`: settings are exchanged between its trials and it is tested
again."""

from __future__ import annotations

import joblib
import numpy as np
import pandas as pd

from memsweep.analysis.claims.claim import Claim, MissingTrialsError
from memsweep.analysis.claims.verdicts import ALPHA, Read, as_tested, combined, gathered, papers
from memsweep.analysis.core import frames
from memsweep.spec.processors import allotted

SHUFFLES = 200


def by_chance(read: Read, shuffles: int) -> dict[tuple[str, int], float]:
    """Returns (paper, claim) -> `reproduced_by_chance`, of claims with `shuffled` whose trials are stored.

    Claims run in parallel, each with its own generator, so that its rate doesn't depend on other claims.
    """
    claims = {(paper.key, claim.number): claim for paper in papers() for claim in paper.claims if claim.shuffled}
    stored = {key: claim for key, claim in claims.items() if _has_rows(claim, read)}
    rates = joblib.Parallel(n_jobs=allotted())(
        joblib.delayed(reproduced_by_chance)(
            claim, gathered(claim, read), np.random.default_rng([number, *paper.encode()]), shuffles
        )
        for (paper, number), claim in stored.items()
    )
    return dict(zip(stored, rates, strict=True))


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
            parts = [as_tested(evidence) for evidence in claim.measure(shuffled(rows, claim.shuffled, generator))]
        except MissingTrialsError:
            continue
        hits += combined(parts)["p"] <= ALPHA
    return hits / shuffles


def shuffled(rows: pd.DataFrame, columns: tuple[str, ...], generator: np.random.Generator) -> pd.DataFrame:
    """Returns the rows with these columns exchanged among the trials of a seed that agree in all other fields.

    A single column that changes within trials, in the course of their training, is exchanged within each trial, among
    the times when it was measured.
    """
    if len(columns) == 1 and rows.groupby("trial_id")[columns[0]].nunique().max() > 1:
        return _retimed(rows, columns[0], generator)
    trials = rows.drop_duplicates("trial_id")
    fixed = ["sweep", "seed", *(column for column in frames.varying(trials) if column not in columns)]
    order = np.arange(len(trials))
    for index in trials.groupby(fixed, dropna=False).indices.values():
        order[index] = generator.permutation(index)
    changed = trials[[*columns]].take(order).set_axis(trials["trial_id"], axis=0)
    return rows.drop(columns=[*columns]).join(changed, on="trial_id")


def _retimed(rows: pd.DataFrame, column: str, generator: np.random.Generator) -> pd.DataFrame:
    values = rows[column].to_numpy().copy()
    for index in rows[rows[column].notna()].groupby("trial_id").indices.values():
        at = np.flatnonzero(rows[column].notna())[index]
        values[at] = values[generator.permutation(at)]
    return rows.assign(**{column: values})
