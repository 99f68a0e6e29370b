"""Rows of attempts that ran code which no sweep accepts any more: readable, apart from the tables of that name."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from memsweep.results.storage import accepted
from memsweep.results.storage.parts import KEYS, RANKED, attempt_pairs, kept, unique
from memsweep.results.storage.store import Store

SUFFIX = "_of_other_code"
TABLES = {
    f"{name}{SUFFIX}": name for name, keys in KEYS.items() if {"trial_id", "attempt_id"} <= set(keys) and name != "live"
}
"""Name in a query -> table. Each has the columns of that table, with one attempt per trial and code."""


def rows(name: str, store: Store) -> pa.Table:
    """Returns the rows of one of TABLES."""
    table = TABLES[name]
    trials = store.read("trials")
    trials = trials.take(kept(accepted.by_code(trials.select(RANKED))))
    is_seen = pc.is_in(attempt_pairs(trials), value_set=attempt_pairs(store.trials(["trial_id", "attempt_id"])))
    trials = trials.filter(pc.and_(pc.is_valid(trials["code_fingerprint"]), pc.invert(is_seen)))
    if table == "trials":
        return trials
    others = store.read(table)
    return unique(others.filter(pc.is_in(attempt_pairs(others), value_set=attempt_pairs(trials))), table)
