"""Checks a results folder for leftovers of crashes, full disks and incomplete copies. Changes nothing."""

from __future__ import annotations

import json
import os
import shlex
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from memsweep.results import kept_files, trial_state, wanted
from memsweep.results.storage.location import Location
from memsweep.results.storage.notes import IDENTITY, RUNNING, SEARCHES, TRACKING
from memsweep.results.storage.parts import PART_NAME, digest, read_part
from memsweep.results.storage.store import Store, StoreError
from memsweep.run import checkpoints
from memsweep.spec.config import RECORDED, TrialConfig
from memsweep.spec.options import PROBES
from memsweep.spec.schema import SCHEMAS, Status, own_probes


class Finding(NamedTuple):
    """A difference from the folder that a finished launch leaves."""

    kind: str
    is_wrong: bool
    """Whether a person must repair it; if False, nothing is lost, and memsweep deletes or ignores it."""
    message: str  # what is wrong, and what to do


def inspect(store: Store) -> Iterator[Finding]:
    """Yields all findings."""
    damaged = list(_damaged_parts(store))
    yield from damaged
    if not damaged:
        yield from _copies(store)
        yield from _networks(store)
    yield from _files_beside_parts(store)
    yield from _checkpoints(store, frozenset() if damaged else frozenset(store.settled()))
    yield from _notes(store)
    yield from _permissions(store)
    if not damaged:
        yield from _tables(store)


def incomplete(store: Store) -> list[str]:
    """Returns a sentence for each gap in the tables.

    Gaps are wanted trials that are not settled, and settled trials without all measurements or examples.
    """
    rows, ends = _wanted(store), _ends(store)
    problems = []
    for row in rows:
        end, records = ends.get(row["trial_id"]), wanted.records(row)
        stored = trial_state.end_of(end) if end else trial_state.NOT_STORED
        if trial_state.state(stored, records) not in trial_state.SETTLED:
            lacks = ", ".join(sorted(records - stored[1])) if trial_state.is_settled(stored[0]) else ""
            how = f"{stored[0]} without the wanted {lacks}" if lacks else stored[0] or "missing"
            problems.append(f"{row['trial_id']} of {row['sweep']}: {how}")
    return [*problems, *_lacking(store, rows, ends)]


def trial_of(row: dict[str, Any]) -> TrialConfig:
    """Returns the trial of a row of `wanted`.  Raises StoreError where this version can't read its configuration."""
    try:
        fields = {**json.loads(row["configuration"]), "seed": row["seed"]}
        values = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
        return TrialConfig.of(values)
    except (TypeError, ValueError) as error:
        raise StoreError(
            f"{row['trial_id']} of {row['sweep']}: its configuration in the table wanted can't be read: {error} "
            "Use the version of memsweep that wrote it, or a newer one."
        ) from error


def damaged(store: Store) -> list[tuple[Location, str]]:
    """Returns (part, problem) for parts that can't be read, or whose name does not match their content."""
    problems = []
    for table in store.tables():
        for path in store.parts(table):
            try:
                read_part(path, SCHEMAS.get(table, own_probes.PLACES))
                content_hash = digest(path.read_bytes())
                rightful = path.parent / f"{content_hash}.parquet"
                is_copy = not PART_NAME.fullmatch(path.stem) and rightful.exists()  # harmless
                if path != rightful and not is_copy:
                    problems.append((path, f"the name for its content would be {rightful.name}"))
            except FileNotFoundError:
                if isinstance(path, Path) and os.path.lexists(path):  # else it has been merged meanwhile
                    problems.append((path, "a link to a missing file"))
            except (StoreError, OSError) as error:
                problems.append((path, str(error)))
    return problems


def _damaged_parts(store: Store) -> Iterator[Finding]:
    for path, why in damaged(store):
        yield Finding("part", True, f"{path}: {why}")


def _networks(store: Store) -> Iterator[Finding]:
    for path, why in kept_files.damaged(store):
        yield Finding("weights", True, f"{path}: {why}; restore the file: its weights can't be read")


def _copies(store: Store) -> Iterator[Finding]:
    paths = [path for table in store.tables() for path in store.parts(table) if not PART_NAME.fullmatch(path.stem)]
    if paths:
        yield Finding("copies", False, f"{_files(paths)}: copies of parts, whose rows count once; delete the copies")


def _files_beside_parts(store: Store) -> Iterator[Finding]:
    """Yields files among the parts left by a copy, a download or an interrupted write, and parts in a nested folder."""
    parts = {path for table in store.tables() for path in store.parts(table)}
    others: list[Location] = [
        path for table in store.tables() for path in (store.results / table).glob("*") if path not in parts
    ]
    cut = [path for path in others if path.name.startswith(".") and path.suffix == ".tmp"]
    if half := [*cut, *store.results.glob(".*.tmp")]:
        yield Finding("half written", False, f"{_files(half)}; a launch deletes files older than an hour")
    if foreign := [path for path in others if path not in cut]:
        yield Finding("other files", False, f"{_files(foreign)}; ignored: parts are named <table>/<hash>.parquet")
    if isinstance(store.results, Path):
        inner = sorted({path.parent.parent for path in store.results.glob("*/trials/*.parquet")})
        for folder in inner:
            yield Finding(
                "folder in folder",
                True,
                f"{folder} holds results that are not read. To merge them, run "
                f"cp -rn {shlex.quote(f'{folder}/.')} {shlex.quote(str(store.results))}, then move {folder} away",
            )


def _checkpoints(store: Store, settled: frozenset[str]) -> Iterator[Finding]:
    if store.is_locked():
        return  # checkpoints change during a launch
    folder = store.results / checkpoints.FOLDER
    files: list[Location] = sorted(folder.glob("[!.]*.safetensors"))
    for path in files:
        try:
            saved = checkpoints.read(path)
        except checkpoints.DamagedError as error:
            message = f"{path}: {error}; the next launch deletes it; its trials resume from others or start again"
            yield Finding("checkpoint", False, message)
            continue
        if settled.issuperset(saved.steps):
            yield Finding("checkpoint", False, f"{path}: all its trials have ended; the next launch deletes it")
    if words := [path for path in folder.glob("*.txt") if path.stat().st_size]:
        yield Finding("last words", False, f"{_files(words)}: tracebacks of dead workers; the next launch deletes them")
    if cut := list(folder.glob(".*.tmp")):
        yield Finding("half written", False, f"{_files(cut)}; the next launch deletes them")


def _notes(store: Store) -> Iterator[Finding]:
    try:
        store.programs()
    except StoreError as error:
        yield Finding("note", True, str(error))
    try:
        if (store.results / IDENTITY).exists():
            store.identity()
    except StoreError as error:
        yield Finding("note", True, str(error))
    for name, kind in ((RUNNING, list), (SEARCHES, dict), (TRACKING, dict)):
        path = store.results / name
        try:
            is_valid = not path.exists() or isinstance(json.loads(path.read_text()), kind)
        except (OSError, ValueError):
            is_valid = False
        if not is_valid:
            yield Finding("note", False, f"{path} can't be read and is ignored; the next launch writes a new one")


def _tables(store: Store) -> Iterator[Finding]:
    rows, ends = list(wanted.by_trial(store).values()), _ends(store)
    try:
        lacking = _lacking(store, rows, ends)
    except StoreError as error:
        yield Finding("rows", True, str(error))
        return
    if lacking:
        yield Finding(
            "rows",
            True,
            f"rows of finished trials are missing in {len(lacking)} places, as {lacking[0]}; memsweep verify lists "
            "them. Copy the folder again, with all its tables",
        )
    if (sweeps := wanted.partial(store)) and not store.is_locked():
        yield Finding(
            "rows",
            False,
            f"{', '.join(sweeps)}: the table wanted lacks rows of the last launch, so the launch before it counts, "
            "if there was one. Launch again",
        )
    if orphans := ends.keys() - {row["trial_id"] for row in rows}:
        yield Finding(
            "rows",
            False,
            f"{len(orphans)} stored trials are wanted by no sweep of this folder, and are in no figure. Launch their "
            "sweep, which does not run them again, or copy the table wanted too",
        )


def _wanted(store: Store) -> list[dict[str, Any]]:
    """Returns each wanted trial once, in the row of the sweep that wants the most probes and metrics."""
    rows = sorted(store.current("wanted").to_pylist(), key=lambda row: len(wanted.records(row)))
    return list({row["trial_id"]: row for row in rows}.values())


_END_COLUMNS = ["trial_id", "status", "step_count", *RECORDED]


def _ends(store: Store) -> dict[str, dict[str, Any]]:
    return {row["trial_id"]: row for row in store.trials(_END_COLUMNS).to_pylist()}


def _lacking(store: Store, wanted_trials: list[dict[str, Any]], ends: dict[str, dict[str, Any]]) -> list[str]:
    """Returns a sentence for each table in which a finished trial lacks measurements or probe rows."""
    counts = {
        table: Counter(store.current(table, ["trial_id"])["trial_id"].to_pylist())
        for table in store.tables()
        if table in ("steps", *PROBES) or own_probes.is_own_table(table)
    }
    metrics = store.current("metrics", ["trial_id", "metric"]).to_pylist()
    computed = {(row["trial_id"], row["metric"]) for row in metrics}
    problems = []
    for row in wanted_trials:
        trial_id, end = row["trial_id"], ends.get(row["trial_id"])
        if end is None or end["status"] != Status.FINISHED:
            continue
        trial = trial_of(row)
        expected = sum(1 for _ in _measured_steps(trial, end["step_count"] or 0))
        if counts["steps"][trial_id] != expected:
            problems.append(f"{trial_id} of {row['sweep']}: {counts['steps'][trial_id]} rows in steps, not {expected}")
        for metric in filter(None, (end["metrics"] or "").split(",")):
            if expected and (trial_id, metric) not in computed:
                problems.append(f"{trial_id} of {row['sweep']}: no rows in metrics of {metric}")
        for probe in filter(None, (end["probes"] or "").split(",")):
            table = own_probes.table_of(probe) if ":" in probe else probe
            rows, examples = counts.get(table, Counter())[trial_id], trial.data.examples
            if rows == 0 or (probe == "examples" and rows != examples):
                wanted_rows = f"not {examples}" if probe == "examples" else "not 1 or more"
                problems.append(f"{trial_id} of {row['sweep']}: {rows} rows in {table}, {wanted_rows}")
    return problems


def _measured_steps(trial: TrialConfig, step_count: int) -> Iterator[int]:
    step = 0
    while step < min(step_count, trial.budget):  # a stored count may exceed the budget
        step = trial.next_measurement(step)
        yield step


def _permissions(store: Store) -> Iterator[Finding]:
    """Yields a finding for files that this user can't write in a folder shared by several users."""
    if not isinstance(store.results, Path):
        return
    if not os.access(store.results, os.W_OK):
        yield Finding("read only", False, f"{store.results}: you can read it, but not launch into it")
        return
    folders = [path for path in sorted(store.results.glob("*")) if path.is_dir()]
    files = sorted(path for pattern in ("*.lock", "mlflow.db*") for path in store.results.glob(pattern))
    if closed := [path for path in (*folders, *files) if not os.access(path, os.W_OK)]:
        yield Finding(
            "permissions",
            True,
            f"{', '.join(map(str, closed))}: you can't write there. Their owner runs chmod -R g+w "
            f"{shlex.quote(str(store.results))}, and umask 002 before the next launch",
        )


def _files(paths: list[Any]) -> str:
    """Returns the path of one file, or the number and folders of several."""
    if len(paths) == 1:
        return str(paths[0])
    return f"{len(paths)} files in {', '.join(sorted({str(path.parent) for path in paths}))}"
