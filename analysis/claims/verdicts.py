"""Judges each published claim on the trials of a results folder, with effect, interval and reason.

A margin over seeds is tested by the sign test, which assumes nothing of their distribution; its interval is that of the
median. A trend along ordered settings is tested by Page's test. All parts of a claim must hold (intersection-union):
its p is the largest. Within a paper, p-values are corrected by Holm's method, and a claim whose sweep had several
designs may use only its part of ALPHA (`designs.level`). `contradicted` requires evidence as strong against a claim as
`reproduced` does for it. Checks, which are theorems and identities, know no chance: they hold or fail.
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

from memsweep.analysis.claims import nulls
from memsweep.analysis.claims.claim import Claim, Evidence, Fact, MissingTrialsError, Paper, Tested, Trend
from memsweep.analysis.claims.designs import ALPHA, level
from memsweep.analysis.core import frames
from memsweep.analysis.core.statistics import median_interval
from memsweep.results.storage.location import Location
from memsweep.results.storage.snapshot import Snapshot
from memsweep.results.storage.store import Store

PAPERS: tuple[str, ...] = (
    *("arpit2017", "background", "chaibub2018", "choi2018", "gu2019", "yun2019"),
    *("nakkiran2019", "feldman2020", "carlini2019", "morris2025", "mallinar2022", "grokking", "mup", "recall"),
)
FINDING, CHECK = "finding", "check"
"""Kinds of claims, which are counted apart."""


class Verdict(StrEnum):
    """Result of a claim's test; a check holds or fails."""

    REPRODUCED = "reproduced"
    CONTRADICTED = "contradicted"
    UNDECIDED = "undecided"
    HOLDS = "holds"
    FAILS = "fails"
    NOT_RUN = "not run"


COLUMNS = [
    *("paper", "claim", "kind", "verdict", "statement", "basis", "measured", "estimate", "low", "high", "above"),
    *("replicates", "p", "p_against", "level", "by_chance", "p_untrained", "power", "test", "sweeps", "reason"),
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


def counted(table: pd.DataFrame) -> str:
    """Returns how many findings and how many checks have each verdict, in words.

    table: with COLUMNS.

    >>> counted(pd.DataFrame({"kind": ["finding", "check"], "verdict": ["undecided", "holds"]}))
    '1 finding: 1 undecided; 1 check: 1 holds'
    """
    texts = []
    for kind in (FINDING, CHECK):
        verdicts = table.loc[table["kind"] == kind, "verdict"]
        if len(verdicts):
            by_verdict = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.value_counts().items())
            texts.append(f"{len(verdicts)} {kind}{'s' * (len(verdicts) > 1)}: {by_verdict}")
    return "; ".join(texts)


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
    by_chance = [row for row in rows if row["kind"] == FINDING and row["p"] == row["p"]]
    for name in ("p", "p_against"):
        for row, corrected in zip(by_chance, holm([row[name] for row in by_chance]), strict=True):
            row[name] = corrected
    for row in by_chance:  # corrected as the smallest p of the findings
        row["p_untrained"] = float(np.minimum(1.0, row["p_untrained"] * len(by_chance)))
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
    """Returns a margin with its sign test; a trend with Page's test; a fact with a p-value of 0 or 1."""
    if isinstance(evidence, Tested):
        return evidence
    if isinstance(evidence, Fact):
        p, against = (0.0, 1.0) if evidence.holds else (1.0, 0.0)
        return Tested(evidence.what, evidence.value, np.nan, np.nan, p, against, evidence.checked, np.nan)
    if isinstance(evidence, Trend):
        return _trend(evidence)
    values = np.asarray(evidence.values, float)
    values = values[~np.isnan(values)]
    n = len(values)
    if not n:
        return Tested(evidence.what, np.nan, np.nan, np.nan, np.nan, np.nan, 0, evidence.above)
    low, high = median_interval(values)
    # a tie counts for neither side
    p, against = (stats.binom.sf(count - 1, n, 0.5) for count in _counts(values, evidence.above))
    return Tested(evidence.what, float(np.median(values)), low, high, float(p), float(against), n, evidence.above)


def _trend(evidence: Trend) -> Tested:
    """Returns Page's test, whose estimate is the median over replicates of Spearman's correlation with the order."""
    values = np.asarray(evidence.values, float)
    values = values[~np.isnan(values).any(axis=1)]
    n = len(values)
    if n < 2 or values.shape[1] < 3:
        return Tested(evidence.what, np.nan, np.nan, np.nan, np.nan, np.nan, n)
    ranks = stats.rankdata(values, axis=1)
    order = np.arange(values.shape[1]) - (values.shape[1] - 1) / 2
    spread = np.sqrt((order**2).sum() * ranks.var(axis=1) * values.shape[1])
    rho = ranks @ order / np.where(spread > 0, spread, 1)  # 0 where a replicate is constant
    low, high = median_interval(rho)
    p, against = (float(stats.page_trend_test(sign * values).pvalue) for sign in (1, -1))
    return Tested(evidence.what, float(np.median(rho)), low, high, p, against, n)


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
        **{"sweeps": ", ".join(claim.sweeps), "replicates": 0, "kind": CHECK if claim.is_check else FINDING},
        **dict.fromkeys(("estimate", "low", "high", "above", "p", "p_against"), np.nan),
        **{**dict.fromkeys(("by_chance", "power", "p_untrained"), np.nan), "level": level(claim)},
    }
    try:
        rows = gathered(claim, read)
        evidence = claim.measure(rows)
    except MissingTrialsError as error:
        return {**row, "reason": str(error)}
    tested = combined([as_tested(part) for part in evidence])
    return {**row, **tested, "p_untrained": p_untrained(claim, rows)}


def p_untrained(claim: Claim, rows: pd.DataFrame) -> float:
    """Returns the uncorrected p of a claim measured on its networks before training; NaN where it can't be."""
    if not claim.untrained:
        return np.nan
    try:
        parts = [as_tested(evidence) for evidence in claim.measure(nulls.untrained(rows, claim.untrained))]
    except MissingTrialsError:
        return np.nan
    return float(combined(parts)["p"])


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
    if claim.is_check:
        return (Verdict.HOLDS, f"holds in all {count} cases") if p == 0 else (Verdict.FAILS, "fails")
    if count < claim.replicates:
        return Verdict.UNDECIDED, f"{count} replicates; the test requires {claim.replicates}"
    bound = row["level"]
    rule = "after Holm's correction" + ("" if bound == ALPHA else f", at most {bound:.2g} after former designs")
    if p <= bound:
        if row["p_untrained"] <= bound:
            return Verdict.UNDECIDED, f"untrained networks pass the test too (p = {row['p_untrained']:.2g})"
        return Verdict.REPRODUCED, f"p = {p:.2g} {rule}"
    if against <= bound:
        return Verdict.CONTRADICTED, f"p = {against:.2g} against it {rule}"
    if row["low"] == row["high"] == row["above"]:
        return Verdict.UNDECIDED, "a tie at a floor or ceiling: the replicates are equal to the bound"
    return Verdict.UNDECIDED, f"the evidence leaves room for both (p = {p:.2g} for it, {against:.2g} against it)"
