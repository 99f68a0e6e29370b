"""Rows of attempts that ran code which no sweep accepts any more: readable, apart from the tables of that name."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

from memsweep.results.storage import accepted
from memsweep.results.storage.parts import RANKED, attempt_pairs, kept, keys, unique
from memsweep.results.storage.store import Store
from memsweep.spec.options import OTHER_CODE

SUFFIX = OTHER_CODE


def tables(names: Iterable[str]) -> list[str]:
    """Returns the names in a query of these tables' rows of other code; tables without attempts have none.

    Each has the columns of its table, with one attempt per trial and code.
    """
    ended = (name for name in names if name != "live")
    return [f"{name}{SUFFIX}" for name in ended if {"trial_id", "attempt_id"} <= set(keys(name))]


def rows(name: str, store: Store) -> pa.Table:
    """Returns the rows of one of `tables`."""
    table = name.removesuffix(SUFFIX)
    trials = store.read("trials")
    trials = trials.take(kept(accepted.by_code(trials.select(RANKED))))
    is_seen = pc.is_in(attempt_pairs(trials), value_set=attempt_pairs(store.trials(["trial_id", "attempt_id"])))
    trials = trials.filter(pc.and_(pc.is_valid(trials["code_fingerprint"]), pc.invert(is_seen)))
    if table == "trials":
        return trials
    others = store.read(table)
    return unique(others.filter(pc.is_in(attempt_pairs(others), value_set=attempt_pairs(trials))), table)
