"""Which attempts of trials have ended and when, from whole columns: a launch may have a million trials."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

from memsweep.results import trial_state
from memsweep.results.storage.parts import attempt_pairs
from memsweep.results.storage.store import Store


def ended(store: Store) -> pa.Table:
    """Returns trial_id and attempt_id of all stored trials that have ended."""
    return trial_state.ended(store.trials(["trial_id", "attempt_id", "status"])).select(["trial_id", "attempt_id"])


def ended_since(before: pa.Table, trial_ids: Iterable[str], store: Store) -> int:
    """Returns how many of these trials have ended since `ended` returned `before`."""
    rows = ended(store)
    rows = rows.filter(pc.invert(pc.is_in(attempt_pairs(rows), value_set=attempt_pairs(before))))
    return int(pc.sum(pc.is_in(_ids(trial_ids), value_set=rows["trial_id"].unique())).as_py() or 0)


def dates(trial_ids: Iterable[str], store: Store) -> dict[str, float]:
    """Returns trial_id -> date of its stored attempt, in seconds since 1970, by the clock of the host that ran it."""
    rows = store.trials(["trial_id", "finished_at"])
    rows = rows.filter(pc.is_in(rows["trial_id"], value_set=_ids(trial_ids)))
    pairs = zip(rows["trial_id"].to_pylist(), rows["finished_at"].to_pylist(), strict=True)
    return {trial_id: at.timestamp() for trial_id, at in pairs if at}


def of_trials(trial_ids: Iterable[str], rows: pa.Table) -> list[str]:
    """Returns the attempts of these trials, each once.  rows: trial_id and attempt_id of stored trials."""
    attempts = rows["attempt_id"].filter(pc.is_in(rows["trial_id"], value_set=_ids(trial_ids)))
    return attempts.unique().to_pylist()  # type: ignore[no-any-return]


def _ids(trial_ids: Iterable[str]) -> pa.Array:
    return pa.array(trial_ids, pa.string())
