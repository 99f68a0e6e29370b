"""Attempts whose code counts: a sweep accepts the fingerprints that its rows of `wanted` name, and attempts without."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

Accepted: TypeAlias = Mapping[str, Collection[str] | None]
"""trial_id -> accepted fingerprints of code; None, or no entry: every attempt counts."""

NEEDED = ["sweep", "trial_id", "code_fingerprints"]
"""Columns of `wanted` that `by_sweeps` reads."""


def has_code(attempts: pa.Table) -> bool:
    """Returns whether any of these rows of `trials` ran code of a user's."""
    column = attempts["code_fingerprint"]
    return bool(column.null_count < len(column))


def by_sweeps(wanted: pa.Table, sweep: str | None) -> dict[str, frozenset[str] | None]:
    """Returns the fingerprints that a sweep accepts of each trial; of None, those that any sweep accepts.

    wanted: the columns NEEDED of the rows that count.
    """
    if sweep is not None:
        wanted = wanted.filter(pc.equal(wanted["sweep"], sweep))
    accepted: dict[str, frozenset[str] | None] = {}
    for trial_id, text in zip(wanted["trial_id"].to_pylist(), wanted["code_fingerprints"].to_pylist(), strict=True):
        before = accepted.get(trial_id, frozenset())
        accepted[trial_id] = None if before is None or text is None else before | frozenset(text.split(","))
    return accepted


def counts(attempts: pa.Table, accepted: Accepted) -> pa.Array:
    """Returns which of these rows of `trials` run code that is accepted."""
    columns = (attempts[name].to_pylist() for name in ("trial_id", "code_fingerprint"))
    return pa.array(_counts(zip(*columns, strict=True), accepted), pa.bool_())


def by_code(attempts: pa.Table) -> pa.Table:
    """Returns these rows with their code added to trial_id, so that attempts of different code are different trials."""
    texts = pc.binary_join_element_wise(attempts["trial_id"], pc.fill_null(attempts["code_fingerprint"], ""), "/")
    return attempts.set_column(attempts.column_names.index("trial_id"), "trial_id", texts)


def _counts(rows: Iterator[tuple[str, str | None]], accepted: Accepted) -> Iterator[bool]:
    for trial_id, fingerprint in rows:
        fingerprints = accepted.get(trial_id)
        yield fingerprint is None or fingerprints is None or fingerprint in fingerprints
