"""Measurements of trials in training: which rows of `live` readers see, beside the rows of `steps`.

Workers write rows of `live` while a pack trains, and delete them when it ends. Estimates, claims, exports and MLflow's
ended runs read `steps` from the store, without them; `query` and `memsweep.table` show them.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress

import pyarrow as pa
import pyarrow.compute as pc

from memsweep.results import trial_state
from memsweep.results.storage.parts import attempt_pairs, unique
from memsweep.results.storage.store import Store
from memsweep.spec.schema import SCHEMAS

LIVE = "live"


def with_steps(store: Store) -> pa.Table:
    """Returns the rows of `steps` and those of trials in training, which `is_live` marks: each measurement once."""
    live = store.read(LIVE)  # before `steps`, to which the rows of a trial that ends move
    steps = store.current("steps")
    live = _in_training(live, steps, store)
    rest = steps.filter(pc.invert(pc.is_in(steps["trial_id"], value_set=live["trial_id"].unique())))
    return pa.concat_tables([_marked(rest, False), _marked(live, True)])


def rows(store: Store) -> pa.Table:
    """Returns the rows of `live` of trials in training, of the newest training of each, by trial and step."""
    live = store.read(LIVE)
    seen = store.current("steps", ["trial_id", "attempt_id"]) if len(live) else live
    return _in_training(live, seen, store).sort_by([("trial_id", "ascending"), ("step", "ascending")])


def delete(store: Store, trial_ids: Collection[str]) -> None:
    """Deletes the parts of `live` that have rows of these trials alone: what dead workers left.

    The caller holds the lock of a launch of these trials, and no worker trains them.
    """
    for path in store.parts(LIVE):
        with suppress(FileNotFoundError):  # its pack has ended: other parts of the launch may train
            if set(store.rows_in(LIVE, [path])["trial_id"].to_pylist()) <= set(trial_ids):
                path.unlink()


def newest(store: Store, trial_ids: Collection[str]) -> float:
    """Returns when the newest training of these trials began that has rows of `live`, in seconds since 1970; else 0."""
    rows = store.read(LIVE, ["trial_id", "begun_at"])
    begun = rows.filter(pc.is_in(rows["trial_id"], value_set=pa.array(sorted(trial_ids), pa.string())))["begun_at"]
    return max((time.timestamp() for time in begun.to_pylist()), default=0.0)


def _in_training(live: pa.Table, steps: pa.Table, store: Store) -> pa.Table:
    """Returns the rows of `live` of trials that have not ended, of the newest training of each.

    steps: rows that readers see.
    """
    if not len(live):
        return live
    ends = store.trials(["trial_id", "status"]).to_pylist()
    settled = [row["trial_id"] for row in ends if trial_state.is_settled(row["status"])]
    stored = steps.filter(pc.is_in(steps["trial_id"], value_set=pa.array(settled, pa.string())))["trial_id"].unique()
    is_over = pc.or_(
        pc.is_in(live["trial_id"], value_set=stored),
        pc.is_in(attempt_pairs(live), value_set=attempt_pairs(steps)),
    )
    live = live.filter(pc.invert(is_over))
    begun = live.join(live.group_by("trial_id").aggregate([("begun_at", "max")]), "trial_id")
    return unique(begun.filter(pc.equal(begun["begun_at"], begun["begun_at_max"])).select(live.column_names), LIVE)


def _marked(rows: pa.Table, is_live: bool) -> pa.Table:
    schema = SCHEMAS["steps"]
    marks = pa.array([is_live] * len(rows), pa.bool_())
    columns = [marks if name == "is_live" else rows[name] for name in schema.names]
    return pa.Table.from_arrays(columns, schema=schema)
