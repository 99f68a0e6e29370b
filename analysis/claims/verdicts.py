"""Judges each published claim on the trials of a results folder, with effect, interval and reason.

A margin over seeds is tested by the sign test, which assumes nothing of their distribution; its interval is that of the
median. All parts of a claim must hold (intersection-union): its p is the largest. Within a paper, p-values are
corrected by Holm's method. `contradicted` requires evidence as strong against a claim as `reproduced` does for it.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from memsweep.analysis.claims.claim import Claim, Evidence, Fact, MissingTrialsError, Paper, Tested
from memsweep.analysis.core import frames
from memsweep.analysis.core.statistics import median_interval
from memsweep.results.storage.location import Location
from memsweep.results.storage.snapshot import Snapshot
from memsweep.results.storage.store import Store

PAPERS: tuple[str, ...] = ("arpit2017", "background", "chaibub2018", "choi2018", "gu2019", "yun2019")
ALPHA = 0.05
"""Rate of wrong verdicts within a paper, of each kind."""


class Verdict(StrEnum):
    """Result of a claim's test."""

    REPRODUCED = "reproduced"
    CONTRADICTED = "contradicted"
    UNDECIDED = "undecided"
    NOT_RUN = "not run"


COLUMNS = [
    *("paper", "claim", "verdict", "statement", "basis", "measured", "estimate", "low", "high", "above", "replicates"),
    *("p", "p_against", "by_chance", "test", "sweeps", "reason"),
]


Read = Callable[[Claim, str], pd.DataFrame]
"""(claim, sweep) -> the rows of that sweep that count for the claim."""


def papers() -> list[Paper]:
    """Returns the papers whose claims are written down."""
    return [importlib.import_module(f"memsweep.analysis.claims.{name}").PAPER for name in PAPERS]


def judge(results: str | Location | Store) -> pd.DataFrame:
    """Returns one row a claim of every paper, with COLUMNS. The estimate shown is of the claim's weakest part."""
    read = reader(results)
    tables = [judge_paper(paper, read) for paper in papers()]
    return pd.concat([pd.DataFrame(columns=COLUMNS), *tables], ignore_index=True)


def reader(results: str | Location | Store) -> Read:
    """Returns a function that reads a sweep's rows for a claim, and reads each query and table once."""
    store = results if isinstance(results, Store) else Snapshot(results)
    cache: dict[tuple[str, str, tuple[str, ...]], pd.DataFrame] = {}

    def read(claim: Claim, sweep: str) -> pd.DataFrame:
        key = claim.rows, sweep, claim.statuses
        if key not in cache:
            rows = frames.read(claim.rows, sweep, store)
            cache[key] = rows[rows["status"].isin(claim.statuses)].reset_index(drop=True)
        return cache[key]

    return read


def judge_paper(paper: Paper, read: Read) -> pd.DataFrame:
    """Returns one row a claim of the paper, with COLUMNS."""
    rows = [_measured(claim, read) for claim in paper.claims]
    by_chance = [row for row in rows if not row["is_fact"] and row["p"] == row["p"]]
    for name in ("p", "p_against"):
        for row, corrected in zip(by_chance, holm([row[name] for row in by_chance]), strict=True):
            row[name] = corrected
    for claim, row in zip(paper.claims, rows, strict=True):
        row["verdict"], row["reason"] = _verdict(claim, row)
    return pd.DataFrame([{**row, "paper": paper.key} for row in rows])[COLUMNS]


def gathered(claim: Claim, read: Read) -> pd.DataFrame:
    """Returns the rows that a claim is measured on. Raises MissingTrialsError where one of its sweeps has no rows."""
    frames_by_sweep = []
    for sweep in claim.sweeps:
        rows = read(claim, sweep)
        if rows.empty:
            raise MissingTrialsError(f"no finished trial of sweep {sweep}: memsweep launch {sweep}")
        frames_by_sweep.append(rows.assign(sweep=sweep))
    return pd.concat(frames_by_sweep, ignore_index=True) if frames_by_sweep else pd.DataFrame()


def as_tested(evidence: Evidence) -> Tested:
    """Returns a margin with its sign test; a fact with a p-value of 0 or 1."""
    if isinstance(evidence, Tested):
        return evidence
    if isinstance(evidence, Fact):
        p, against = (0.0, 1.0) if evidence.holds else (1.0, 0.0)
        return Tested(evidence.what, evidence.value, np.nan, np.nan, p, against, evidence.checked, np.nan)
    values = np.asarray(evidence.values, float)
    values = values[~np.isnan(values)]
    n = len(values)
    if not n:
        return Tested(evidence.what, np.nan, np.nan, np.nan, np.nan, np.nan, 0, evidence.above)
    low, high = median_interval(values)
    # a tie counts for neither side
    p, against = (stats.binom.sf(count - 1, n, 0.5) for count in _counts(values, evidence.above))
    return Tested(evidence.what, float(np.median(values)), low, high, float(p), float(against), n, evidence.above)


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns p-values after Holm's step-down correction.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    p = np.array(p_values, float)
    order = np.argsort(p, kind="stable")
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return [float(value) for value in corrected]


def _counts(values: np.ndarray, bound: float) -> tuple[int, int]:
    return int((values > bound).sum()), int((values < bound).sum())


Row = dict[str, Any]


def _measured(claim: Claim, read: Read) -> Row:
    """Returns a claim's row without its verdict, with uncorrected p-values."""
    row: Row = {
        **dict.fromkeys(COLUMNS),
        **{"claim": claim.number, "statement": claim.statement, "basis": claim.basis.value, "test": claim.test},
        **{"sweeps": ", ".join(claim.sweeps), "replicates": 0, "is_fact": False},
        **dict.fromkeys(("estimate", "low", "high", "above", "p", "p_against", "by_chance"), np.nan),
    }
    try:
        evidence = claim.measure(gathered(claim, read))
    except MissingTrialsError as error:
        return {**row, "reason": str(error)}
    is_fact = all(isinstance(part, Fact) for part in evidence)
    return {**row, **combined([as_tested(part) for part in evidence]), "is_fact": is_fact}


def combined(parts: Sequence[Tested]) -> Row:
    """Returns the intersection-union of parts: p of the weakest part, p_against of the part most against the claim."""
    weakest = max(parts, key=lambda part: (math.inf if math.isnan(part.p) else part.p, -part.p_against))
    against = [part.p_against for part in parts if not math.isnan(part.p_against)]
    return {
        **{"measured": weakest.what, "estimate": weakest.estimate, "low": weakest.low, "high": weakest.high},
        **{"above": weakest.above, "replicates": min(part.replicates for part in parts), "p": weakest.p},
        "p_against": min(1.0, min(against) * len(parts)) if against else np.nan,
    }


def _verdict(claim: Claim, row: Row) -> tuple[Verdict, str]:
    if row["measured"] is None:
        return Verdict.NOT_RUN, row["reason"]
    count, p, against = row["replicates"], row["p"], row["p_against"]
    if row["is_fact"]:
        return (Verdict.REPRODUCED, f"holds in all {count} cases") if p == 0 else (Verdict.CONTRADICTED, "fails")
    if count < claim.replicates:
        return Verdict.UNDECIDED, f"{count} replicates; the test requires {claim.replicates}"
    if p <= ALPHA:
        return Verdict.REPRODUCED, f"p = {p:.2g} after Holm's correction"
    if against <= ALPHA:
        return Verdict.CONTRADICTED, f"p = {against:.2g} against it after Holm's correction"
    if row["low"] == row["high"] == row["above"]:
        return Verdict.UNDECIDED, "a tie at a floor or ceiling: the replicates are equal to the bound"
    return Verdict.UNDECIDED, f"the evidence leaves room for both (p = {p:.2g} for it, {against:.2g} against it)"
