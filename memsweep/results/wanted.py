"""Rows of the table `wanted`: of a sweep, of earlier launches, and rows that a launch takes over from earlier launches.

`parts.wanted_now` decides which rows count.
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

Records = tuple[tuple[str, ...], tuple[int, ...], tuple[str, ...]]
"""Values of the fields RECORDED: probes, probe_steps, metrics."""


def of_sweep(
    sweep: str, store: Store, columns: Sequence[str] | None = None, *, without: Collection[str] = ()
) -> pa.Table:
    """Returns the rows of `wanted` that a sweep's last launch wants, sorted by position.

    columns: default: all.  without: trial_ids to leave out.
    """
    names = SCHEMAS["wanted"].names if columns is None else list(columns)
    rows = store.current("wanted", list(dict.fromkeys([*names, "sweep", "trial_id", "position"])))
    is_out = pc.is_in(rows["trial_id"], value_set=pa.array(list(without), pa.string()))
    return rows.filter(pc.and_(pc.equal(rows["sweep"], sweep), pc.invert(is_out))).sort_by("position").select(names)


def none() -> pa.Table:
    """Returns an empty table with the columns of `wanted`."""
    return SCHEMAS["wanted"].empty_table()


def take_over(rows: pa.Table, launch: Mapping[str, Any], store: Store, part_rows: int) -> None:
    """Stores rows of an earlier launch as rows of this launch, with positions from 0 in the order of the rows.

    launch: column -> value of this launch.  part_rows: most rows per part.
    """
    for first in range(0, len(rows), part_rows):
        part = rows.slice(first, part_rows)
        columns = {name: [value] * len(part) for name, value in launch.items()}
        for name, values in {"position": range(first, first + len(part)), **columns}.items():
            field = SCHEMAS["wanted"].field(name)
            part = part.set_column(part.schema.get_field_index(name), field, pa.array(values, field.type))
        store.write_part("wanted", part)


def records(row: Mapping[str, Any]) -> frozenset[str]:
    """Returns what a row's trial records beside its measurements, as `TrialConfig.recorded`."""
    return recorded(*(",".join(map(str, values)) for values in items(row)))


def items(row: Mapping[str, Any]) -> Records:
    """Returns the probes, probe_steps and metrics of a row."""
    probes, metrics = (tuple(filter(None, (row[name] or "").split(","))) for name in ("probes", "metrics"))
    return probes, probe_steps(row) if probes else (), metrics


def probe_steps(row: Mapping[str, Any]) -> tuple[int, ...]:
    """Returns the steps at which a row's probes run in addition to the end; () if its configuration is invalid."""
    try:
        return tuple(json.loads(row["configuration"] or "{}").get("probe_steps") or ())
    except (ValueError, AttributeError, TypeError):  # reported where other fields are read
        return ()


def by_trial(store: Store) -> dict[str, dict[str, Any]]:
    """Returns trial_id -> row of `wanted`: a current row if there is one, else a row of an earlier launch."""
    now = {row["trial_id"]: row for row in store.current("wanted").to_pylist()}
    ever = store.read("wanted")
    former = ever.filter(pc.invert(pc.is_in(ever["trial_id"], value_set=pa.array(list(now), pa.string()))))
    return {**now, **{row["trial_id"]: row for row in former.to_pylist()}}


def former(store: Store) -> dict[str, set[str]]:
    """Returns sweep -> stored trials that earlier launches of the sweep wanted and its last launch does not."""
    stored = pa.array(sorted(store.ends()), pa.string())
    names = ["sweep", "trial_id"]
    ever, now = store.read("wanted", names), store.current("wanted", names)
    if len(ever) == len(now):  # for example if each sweep was launched once
        return {}
    ever = ever.filter(pc.is_in(ever["trial_id"], value_set=stored))
    trials: dict[str, set[str]] = {}
    for sweep, trial_id in _pairs(ever) - _pairs(now):
        trials.setdefault(sweep, set()).add(trial_id)
    return trials


def unwanted(store: Store) -> set[str]:
    """Returns stored trials that a sweep wanted earlier, and that no sweep wants now."""
    gone = set[str]().union(*former(store).values())
    return gone and gone - set(store.current("wanted", ["trial_id"])["trial_id"].to_pylist())


def partial(store: Store) -> list[str]:
    """Returns the sweeps whose last launch is stored incompletely, so that an earlier launch counts, or no launch."""
    now = _last_launches(store.current("wanted", _LAUNCH))
    return sorted(
        sweep for sweep, last in _last_launches(store.read("wanted", _LAUNCH)).items() if last != now.get(sweep)
    )


_LAUNCH = ["sweep", "launched_at", "launch_id"]


def _last_launches(rows: pa.Table) -> dict[str, tuple[Any, str]]:
    """Returns sweep -> (start, launch_id) of its last launch; rows without launch_id are skipped."""
    launches = rows.filter(pc.is_valid(rows["launch_id"])).group_by(_LAUNCH).aggregate([])
    rows_of = sorted(zip(*(launches[name].to_pylist() for name in _LAUNCH), strict=True))
    return {sweep: (at, launch_id) for sweep, at, launch_id in rows_of}


def _pairs(rows: pa.Table) -> set[tuple[str, str]]:
    return set(zip(rows["sweep"].to_pylist(), rows["trial_id"].to_pylist(), strict=True))
