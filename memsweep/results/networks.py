"""Files of kept weights: safetensors that hold the numbers of several networks of one program, members first.

The table `weights` has a row for each network in them. Readers of tables need no safetensors: functions import it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from memsweep.results import kept_files
from memsweep.results.storage.parts import StoreError
from memsweep.results.storage.store import Store

TABLE = "weights"
Array = np.ndarray[Any, Any]


def write(store: Store, trial_ids: Sequence[str], numbers: Mapping[str, Array]) -> str:
    """Writes the numbers of networks, and returns the file's name.  numbers: name -> [members, *shape].

    Raises StoreError.
    """
    from safetensors.numpy import save

    header = {"memsweep": json.dumps(list(trial_ids))}
    content = save({name: np.ascontiguousarray(values) for name, values in numbers.items()}, header)
    return kept_files.write(store, TABLE, content)


def read(store: Store, name: str, members: Sequence[int]) -> dict[str, Array]:
    """Returns the numbers of these members of a file: name -> [members, *shape].  Raises StoreError."""
    from safetensors import SafetensorError, safe_open
    from safetensors.numpy import load

    path = kept_files.path_of(store, TABLE, name)
    try:
        if not isinstance(path, Path):
            return {key: values[list(members)] for key, values in load(path.read_bytes()).items()}
        with safe_open(path, "np") as file:  # reads these members alone
            return {key: np.stack([file.get_slice(key)[m] for m in members]) for key in file.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise StoreError(
            f"{path}: the file of kept weights is missing. Restore it from a copy of the folder."
        ) from error
    except (SafetensorError, OSError, IndexError) as error:
        raise StoreError(
            f"{path}: the file of kept weights can't be read ({error}). Restore it from a copy."
        ) from error


def rows(store: Store, trial_ids: Sequence[str], step: int | None = None) -> list[dict[str, Any]]:
    """Returns the row of `weights` of each trial, in order.  step: default: the last that is kept.

    Raises StoreError where a trial's weights are not kept.
    """
    table = store.current("weights")
    by_trial: dict[str, dict[int, dict[str, Any]]] = {}
    for row in table.filter(pc.is_in(table["trial_id"], value_set=pa.array(trial_ids, pa.string()))).to_pylist():
        by_trial.setdefault(row["trial_id"], {})[row["step"]] = row
    chosen = []
    for trial_id in trial_ids:
        kept = by_trial.get(trial_id)
        if not kept:
            raise StoreError(f"{trial_id}: its weights are not kept. Launch its sweep again with --keep weights.")
        if step is not None and step not in kept:
            steps = ", ".join(map(str, sorted(kept)))
            raise StoreError(f"{trial_id}: its weights are not kept at step {step}, but at {steps}.")
        chosen.append(kept[max(kept) if step is None else step])
    return chosen


def of_rows(store: Store, rows: Sequence[Mapping[str, Any]]) -> dict[str, Array]:
    """Returns the numbers of the networks of these rows, in order: name -> [rows, *shape].  Raises StoreError."""
    places: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        places.setdefault(row["file"], []).append(place)
    order = [place for group in places.values() for place in group]
    read_files = [read(store, file, [rows[place]["position"] for place in group]) for file, group in places.items()]
    return {
        name: np.concatenate([numbers[name] for numbers in read_files])[np.argsort(order)] for name in read_files[0]
    }


def export(store: Store, trial_id: str, out: Path, step: int | None = None) -> dict[str, Any]:
    """Writes a trial's weights to one safetensors file, which its plain module loads, and returns the row of `weights`.

    Raises StoreError.
    """
    from safetensors.numpy import save

    (row,) = rows(store, [trial_id], step)
    numbers = {name: np.array(values[0]) for name, values in of_rows(store, [row]).items()}
    content = save(numbers, {"trial_id": trial_id, "step": str(row["step"])})
    try:
        out.write_bytes(content)
    except OSError as error:
        raise StoreError(f"{out}: can't be written ({error.strerror or error}).") from error
    return row
