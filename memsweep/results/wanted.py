"""Rows of the table `wanted`: of one sweep, of earlier launches, and those that a launch takes over from them.

Which rows count is decided in `parts.wanted_now`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from memsweep.results.storage.store import Store
from memsweep.spec.config import recorded
from memsweep.spec.schema import SCHEMAS


def of_sweep(
    sweep: str, store: Store, columns: Sequence[str] | None = None, *, without: Collection[str] = ()
) -> pa.Table:
    """What a sweep wants now, by position.  without: trials that are left out."""
    names = SCHEMAS["wanted"].names if columns is None else list(columns)
    rows = store.current("wanted", list(dict.fromkeys([*names, "sweep", "trial_id", "position"])))
    is_out = pc.is_in(rows["trial_id"], value_set=pa.array(list(without), pa.string()))
    return rows.filter(pc.and_(pc.equal(rows["sweep"], sweep), pc.invert(is_out))).sort_by("position").select(names)


def none() -> pa.Table:
    """No rows."""
    return SCHEMAS["wanted"].empty_table()


def take_over(rows: pa.Table, launch: Mapping[str, Any], store: Store, part_rows: int) -> None:
    """Stores rows of a former launch as rows of this one, in their order from position 0.  launch: its columns."""
    for first in range(0, len(rows), part_rows):
        part = rows.slice(first, part_rows)
        columns = {name: [value] * len(part) for name, value in launch.items()}
        for name, values in {"position": range(first, first + len(part)), **columns}.items():
            field = SCHEMAS["wanted"].field(name)
            part = part.set_column(part.schema.get_field_index(name), field, pa.array(values, field.type))
        store.write_part("wanted", part)


def records(row: Mapping[str, Any]) -> frozenset[str]:
    """What the probes that a row asks for leave: their names, and the steps they are asked at beside the end."""
    return recorded(row["probes"], ",".join(map(str, probe_steps(row)))) if row["probes"] else frozenset()


def probe_steps(row: Mapping[str, Any]) -> tuple[int, ...]:
    """Steps at which a row's probes are asked beside the end."""
    try:
        return tuple(json.loads(row["configuration"] or "{}").get("probe_steps") or ())
    except (ValueError, AttributeError, TypeError):  # reported by whoever needs its other fields
        return ()


def by_trial(store: Store) -> dict[str, dict[str, Any]]:
    """trial_id -> a row of it: of what is wanted now, then of what earlier launches wanted."""
    now = {row["trial_id"]: row for row in store.current("wanted").to_pylist()}
    ever = store.read("wanted")
    former = ever.filter(pc.invert(pc.is_in(ever["trial_id"], value_set=pa.array(list(now), pa.string()))))
    return {**now, **{row["trial_id"]: row for row in former.to_pylist()}}


def former(store: Store) -> dict[str, set[str]]:
    """Sweep -> stored trials that earlier launches of it wanted, and the last one does not."""
    stored = pa.array(sorted(store.ends()), pa.string())
    names = ["sweep", "trial_id"]
    ever, now = store.read("wanted", names), store.current("wanted", names)
    if len(ever) == len(now):  # as where each sweep was launched once
        return {}
    ever = ever.filter(pc.is_in(ever["trial_id"], value_set=stored))
    found: dict[str, set[str]] = {}
    for sweep, trial_id in _pairs(ever) - _pairs(now):
        found.setdefault(sweep, set()).add(trial_id)
    return found


def unwanted(store: Store) -> set[str]:
    """Stored trials that a sweep wanted once, and none wants now."""
    gone = set[str]().union(*former(store).values())
    return gone and gone - set(store.current("wanted", ["trial_id"])["trial_id"].to_pylist())


def partial(store: Store) -> list[str]:
    """Sweeps whose last launch is stored in part, so that an earlier one counts, or none."""
    now = _last_launches(store.current("wanted", _LAUNCH))
    return sorted(
        sweep for sweep, last in _last_launches(store.read("wanted", _LAUNCH)).items() if last != now.get(sweep)
    )


_LAUNCH = ["sweep", "launched_at", "launch_id"]


def _last_launches(rows: pa.Table) -> dict[str, tuple[Any, str]]:
    """Sweep -> when its last launch began, and its id, as far as these rows name launches."""
    launches = rows.filter(pc.is_valid(rows["launch_id"])).group_by(_LAUNCH).aggregate([])
    rows_of = sorted(zip(*(launches[name].to_pylist() for name in _LAUNCH), strict=True))
    return {sweep: (at, launch_id) for sweep, at, launch_id in rows_of}


def _pairs(rows: pa.Table) -> set[tuple[str, str]]:
    return set(zip(rows["sweep"].to_pylist(), rows["trial_id"].to_pylist(), strict=True))
