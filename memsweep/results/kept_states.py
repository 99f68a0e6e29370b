"""Rows of the table `states`: kept states of training, by the lineage of their trials."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from memsweep.results.storage.store import Store
from memsweep.spec.options import STATES

RECORDS = "records"
"""Key of a row under which is what its trial recorded beside its measurements, as `TrialConfig.recorded`."""


def by_lineage(store: Store, lineages: Iterable[str]) -> dict[str, list[Mapping[str, Any]]]:
    """Returns lineage -> rows of `states` with RECORDS, the most steps first, of these lineages."""
    if not store.parts(STATES):
        return {}
    rows = store.current(STATES)
    rows = rows.filter(pc.is_in(rows["lineage"], value_set=pa.array(sorted(set(lineages)), pa.string())))
    ends = store.ends() if len(rows) else {}
    kept: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows.sort_by([("step", "descending"), ("trial_id", "ascending")]).to_pylist():
        kept.setdefault(row["lineage"], []).append({**row, RECORDS: ends[row["trial_id"]][1]})
    return kept
