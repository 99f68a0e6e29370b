"""The checkpoints of a results folder: what each holds, which are of use, which can go. Needs neither torch nor ray.

They are found by their members, never by name, and read here by their header alone; `engine/train/checkpoint.py` writes
and restores them.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import fields
from importlib.metadata import version
from typing import Any, NamedTuple

from memsweep.results.storage.location import Location
from memsweep.results.storage.store import Store
from memsweep.run.packing import Pack

FOLDER = "checkpoints"
CHECKPOINT_SECONDS = 30.0
"""A pack is saved about this often, unless --checkpoint says otherwise."""


class DamagedError(Exception):
    """Why a file is no checkpoint."""


class Saved(NamedTuple):
    """A checkpoint, as its header tells it."""

    path: Location
    steps: dict[str, int]  # trial -> step, of the members that were training
    trials: tuple[str, ...]  # of the pack: members first, then those that waited for a slot
    slots: int
    execution: dict[str, Any]  # how it ran, as `execution` tells it


def path_of(store: Store, pack: Pack) -> Location:
    return store.results / FOLDER / f"{pack.pack_id}.safetensors"


def execution(pack: Pack, device: str) -> dict[str, Any]:
    """What must be the same for a pack to go on from a checkpoint with the bits of one never stopped."""
    names = {entry.name for entry in fields(pack)} - {"trials", "slots", "compared", "share", "sources"}
    how = {name: getattr(pack, name) for name in sorted(names)}
    return {**how, "device": device.partition(":")[0], "torch": version("torch")}


def note(trials: Collection[str], slots: int, how: Mapping[str, Any]) -> dict[str, Any]:
    """What the header says beside members and steps."""
    return {"trials": list(trials), "slots": slots, "execution": dict(how)}


def stored(store: Store) -> list[Saved]:
    """The checkpoints that are there, the furthest first; damaged ones are passed over."""
    found = []
    for path in _files(store):
        with suppress(DamagedError, FileNotFoundError):  # its pack has just replaced it
            found.append(read(path))
    return sorted(found, key=lambda saved: -max(saved.steps.values(), default=0))


def read(path: Location) -> Saved:
    """The header of a checkpoint. Raises DamagedError, FileNotFoundError."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(size, path.stat().st_size)))
        end = max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
        if path.stat().st_size != 8 + size + end:
            raise DamagedError("it is cut off")
        own = json.loads(header["__metadata__"]["memsweep"])
        steps = dict(zip(own["members"], own["steps"], strict=True))
        return Saved(path, steps, tuple(own["trials"]), int(own["slots"]), own["execution"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedError(f"it is no checkpoint ({error})") from error


def steps(store: Store) -> dict[str, int]:
    """How far each trial can be taken up again."""
    found: dict[str, int] = {}
    for saved in stored(store):
        found |= {trial_id: max(step, found.get(trial_id, 0)) for trial_id, step in saved.steps.items()}
    return found


def tidy(store: Store, left: Collection[str], own: Collection[str] | None = None) -> None:
    """Deletes the checkpoints from which none of the trials that are left would go on.

    own: only checkpoints of these trials are touched, while others may write theirs.
    """
    best: dict[tuple[str, str], Saved] = {}
    everything = stored(store)
    for saved in everything:
        for trial_id, step in saved.steps.items():
            key = (trial_id, json.dumps(saved.execution, sort_keys=True))
            if trial_id in left and (key not in best or step > best[key].steps[trial_id]):
                best[key] = saved
    useful = {saved.path for saved in best.values()}
    for saved in everything:
        if saved.path not in useful and (own is None or set(saved.steps) <= set(own)):
            saved.path.unlink(missing_ok=True)


def remove_damaged(store: Store) -> list[str]:
    """Deletes what is no whole checkpoint; a sentence each. Files that a killed writer left half written need none."""
    sentences = []
    for leftover in (store.results / FOLDER).glob(".*.tmp"):
        leftover.unlink(missing_ok=True)
    for path in _files(store):
        try:
            read(path)
        except DamagedError as error:
            path.unlink(missing_ok=True)
            sentences.append(f"{path}: {error}; it is deleted, and its trials go on from what else is there.")
    return sentences


def _files(store: Store) -> list[Location]:
    return sorted((store.results / FOLDER).glob("[!.]*.safetensors"))
