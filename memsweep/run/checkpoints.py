"""The checkpoints of a results folder: their contents, and which are useful. Needs no torch and no ray.

Checkpoints are matched by their members, not by name, and only their headers are read here;
`engine/train/checkpoint.py` writes and restores them.
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
"""Seconds between two checkpoints of a pack, unless --checkpoint sets another value."""


class DamagedError(Exception):
    """The file is not a valid checkpoint."""


class Saved(NamedTuple):
    """The header of a checkpoint."""

    path: Location
    steps: dict[str, int]  # trial -> step, of the members that were training
    trials: tuple[str, ...]  # of the pack: members first, then trials waiting for a slot
    slots: int
    execution: dict[str, Any]  # from `execution`


def path_of(store: Store, pack: Pack) -> Location:
    """Returns the path of a pack's checkpoint."""
    return store.results / FOLDER / f"{pack.pack_id}.safetensors"


def execution(pack: Pack, device: str) -> dict[str, Any]:
    """Returns the properties that must be equal to resume a pack from a checkpoint with unchanged bits."""
    others = {"trials", "slots", "compared", "share", "sources", "code", "states", "folder", "after"}
    names = {entry.name for entry in fields(pack)} - others
    how = {name: getattr(pack, name) for name in sorted(names)}
    if pack.code:
        how["code"] = dict(pack.code)
    return {**how, "device": device.partition(":")[0], "torch": version("torch")}


def state_execution(pack: Pack, device: str, device_name: str | None) -> dict[str, Any]:
    """Returns the properties that must be equal to go on from a kept state with unchanged bits.

    device_name: processor or accelerator; None: unknown here, left out.
    """
    how = execution(pack, device)
    return how if device_name is None else {**how, "device_name": device_name}


def as_text(how: Mapping[str, Any]) -> str:
    """Returns what `execution` returned as JSON, equal texts for equal ways."""
    return json.dumps(how, sort_keys=True, separators=(",", ":"))


def note(trials: Collection[str], slots: int, how: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the header's fields besides members and steps."""
    return {"trials": list(trials), "slots": slots, "execution": dict(how)}


def stored(store: Store) -> list[Saved]:
    """Returns the headers of all intact checkpoints, those with the most steps first."""
    headers = []
    for path in _files(store):
        with suppress(DamagedError, FileNotFoundError):  # a file may disappear when its pack replaces it
            headers.append(read(path))
    return sorted(headers, key=lambda saved: -max(saved.steps.values(), default=0))


def read(path: Location) -> Saved:
    """Returns the header of a checkpoint. Raises DamagedError, FileNotFoundError."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(size, path.stat().st_size)))
        end = max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
        if path.stat().st_size != 8 + size + end:
            raise DamagedError("the file is truncated")
        note = json.loads(header["__metadata__"]["memsweep"])
        steps = dict(zip(note["members"], note["steps"], strict=True))
        return Saved(path, steps, tuple(note["trials"]), int(note["slots"]), note["execution"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedError(f"the file is not a checkpoint ({error})") from error


def steps(store: Store) -> dict[str, int]:
    """Returns trial -> the most steps that a checkpoint holds of it."""
    furthest: dict[str, int] = {}
    for saved in stored(store):
        furthest |= {trial_id: max(step, furthest.get(trial_id, 0)) for trial_id, step in saved.steps.items()}
    return furthest


def tidy(store: Store, left: Collection[str], only: Collection[str] | None = None) -> None:
    """Deletes the checkpoints from which no trial in `left` would resume.

    only: if given, only checkpoints of these trials are deleted, because other workers may write theirs.
    """
    best: dict[tuple[str, str], Saved] = {}
    everything = stored(store)
    for saved in everything:
        for trial_id, step in saved.steps.items():
            key = (trial_id, as_text(saved.execution))
            if trial_id in left and (key not in best or step > best[key].steps[trial_id]):
                best[key] = saved
    useful = {saved.path for saved in best.values()}
    for saved in everything:
        if saved.path not in useful and (only is None or set(saved.steps) <= set(only)):
            saved.path.unlink(missing_ok=True)


def remove_damaged(store: Store) -> list[str]:
    """Deletes damaged checkpoints, returns a sentence on each; partial files of killed writers are deleted silently."""
    sentences = []
    for leftover in (store.results / FOLDER).glob(".*.tmp"):
        leftover.unlink(missing_ok=True)
    for path in _files(store):
        try:
            read(path)
        except DamagedError as error:
            path.unlink(missing_ok=True)
            sentences.append(f"{path}: {error}; it is deleted; its trials resume from others or start again.")
    return sentences


def _files(store: Store) -> list[Location]:
    return sorted((store.results / FOLDER).glob("[!.]*.safetensors"))
