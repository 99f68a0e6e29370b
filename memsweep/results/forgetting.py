"""Forgets and renames the sweeps of a results folder."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from memsweep.results import notes
from memsweep.results.storage import forgotten
from memsweep.results.storage.store import Store, StoreError
from memsweep.spec.schema import SCHEMAS
from memsweep.spec.sweep import name_problems


class Forgotten(NamedTuple):
    """What forgetting a sweep does to its stored trials."""

    sweep: str
    deleted: frozenset[str]  # trials that the next compaction deletes
    kept: int  # trials that stay, because another sweep wants them, or wanted them in an earlier launch

    def __str__(self) -> str:
        stay = f"; {self.kept:,} stay, because other sweeps want them" * bool(self.kept)
        return f"{self.sweep}: {len(self.deleted):,} stored trials are deleted by the next memsweep compact{stay}."


def preview(store: Store, sweep: str) -> Forgotten:
    """Returns what `forget` would do.  Raises StoreError for an unknown sweep."""
    notes.check_sweep(store, sweep)
    rows = store.read("wanted", ["sweep", "trial_id"])
    is_its_row = pc.equal(rows["sweep"], sweep)
    mine, others = (set(rows["trial_id"].filter(mask).to_pylist()) for mask in (is_its_row, pc.invert(is_its_row)))
    stored = mine & set(store.read("trials", ["trial_id"])["trial_id"].to_pylist())
    return Forgotten(sweep, frozenset(stored - others), len(stored & others))


def forget(store: Store, sweep: str) -> Forgotten:
    """Makes readers skip a sweep, and returns what the next compaction deletes; until then a launch takes it up again.

    Raises StoreError for an unknown sweep, LockedError while a launch runs.
    """
    with store.lock("launch"):
        result = preview(store, sweep)
        notes.add(store, sweep, [(notes.CLEAR, None)])
        _bury(store, sweep)
    return result


def rename(store: Store, sweep: str, name: str) -> None:
    """Gives a sweep another name, with its trials of earlier launches, its search and its notes.

    An interrupted call leaves the sweep under its old name; the same call then completes it.
    Raises StoreError for an unknown sweep, an invalid name, or a name that another sweep has; LockedError while a
    launch runs.
    """
    if problems := name_problems(name):
        raise StoreError(problems[0])
    with store.lock("launch"):
        notes.check_sweep(store, sweep)
        rows = store.read("wanted")
        others = rows.filter(pc.equal(rows["sweep"], name))
        rows = rows.filter(pc.equal(rows["sweep"], sweep))
        launch_ids = [_renamed(launch_id, sweep, name) for launch_id in rows["launch_id"].to_pylist()]
        if sweep == name or not set(others["launch_id"].to_pylist()) <= set(launch_ids):
            raise StoreError(f"a sweep {name!r} is in {store.results} already; choose another name.")
        for column, values in {"sweep": [name] * len(rows), "launch_id": launch_ids}.items():
            field = SCHEMAS["wanted"].field(column)
            rows = rows.set_column(rows.column_names.index(column), field, pa.array(values, pa.string()))
        store.write_part("wanted", rows)
        notes.add(store, sweep, [(notes.RENAME, name)])
        if progress := store.searches().get(sweep):
            store.note_search(name, progress)
        _bury(store, sweep)


def _renamed(launch_id: str | None, sweep: str, name: str) -> str:
    """Returns the launch's id under the new name: the hash of its trials, then of its history.

    The same at each call, and another than all before, which are forgotten.
    """
    history = hashlib.blake2b(f"{launch_id} {sweep} {name}".encode(), digest_size=4).hexdigest()
    return f"{(launch_id or '').partition('-')[0]}-{history}"


def _bury(store: Store, sweep: str) -> None:
    """Stores that the launches of a sweep do not count, and deletes what its search left."""
    launches = store.read("wanted", forgotten.LAUNCH)
    launch_ids = pc.unique(launches["launch_id"].filter(pc.equal(launches["sweep"], sweep))).to_pylist()
    at = datetime.now(UTC)
    store.write("forgotten", [{"sweep": sweep, "launch_id": id_, "forgotten_at": at} for id_ in launch_ids])
    store.drop_search(sweep)
