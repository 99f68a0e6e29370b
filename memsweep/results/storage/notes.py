"""The notes of a results folder: small files beside the tables, for later launches and for `memsweep status`."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from memsweep.results.storage import launch_lock, locks
from memsweep.results.storage.location import Location
from memsweep.results.storage.parts import StoreError, write_whole
from memsweep.spec.part import Part

RUNNING = "running.json"
PROGRESS = "progress.json"
PROGRAMS = "programs.json"
SEARCHES = "searches.json"
TRACKING = "tracking.json"
IDENTITY = "identity"
STUDIES = "studies"
"""Folder of Optuna's studies, one journal per sweep."""


class Notes:
    """The notes of one results folder."""

    results: Location

    @property
    def programs_path(self) -> Location:
        """Returns the path of the file that stores how programs are executed."""
        return self.results / PROGRAMS

    def identity(self) -> str:
        """Returns the folder's random name, created at the first call; a copy of the folder has the same name.

        Raises StoreError if the stored name is invalid.
        """
        path = self.results / IDENTITY
        if not path.exists():
            write_whole(path, f"{secrets.token_hex(8)}\n".encode())
        name = path.read_text(errors="replace").strip()
        if not re.fullmatch(r"[0-9a-f]+", name):
            raise StoreError(f"{path}: must hold hexadecimal digits. Delete it; memsweep track creates a new name.")
        return name

    def note_running(self, packs: Mapping[str, Sequence[str]], part: Part | None = None) -> None:
        """Stores which packs the current launch, or a part of it, trains.  packs: pack_id -> ids of its trials.

        Only packs that the last note lacks are written.  Raises StoreError.
        """
        path = self.results / RUNNING if part is None else launch_lock.running_path(self.results, part)
        before = set(launch_lock.names_in(path))
        for pack_id in packs.keys() - before:
            write_whole(launch_lock.pack_path(self.results, pack_id), json.dumps(list(packs[pack_id])).encode())
        write_whole(path, json.dumps(list(packs)).encode())
        for pack_id in before - packs.keys():
            launch_lock.pack_path(self.results, pack_id).unlink(missing_ok=True)

    def note_programs(self, plans: Mapping[str, Mapping[str, Any]]) -> None:
        """Adds program name -> execution plan to the stored plans.  Raises StoreError."""
        write_whole(self.programs_path, json.dumps({**self.programs(), **plans}, indent=1).encode())

    def programs(self) -> dict[str, dict[str, Any]]:
        """Returns program name -> execution plan, for all programs launched in this folder.  Raises StoreError."""
        if not self.programs_path.exists():
            return {}
        try:
            return {name: dict(plan) for name, plan in json.loads(self.programs_path.read_text()).items()}
        except (ValueError, AttributeError, TypeError) as error:
            raise StoreError(
                f"{self.programs_path}: can't be read ({error}). Move the file away; the next launch writes a new one."
            ) from error

    def note_search(self, sweep: str, sentence: str) -> None:
        """Stores the progress or the result of a sweep's search, as a sentence.  Raises StoreError."""
        write_whole(self.results / SEARCHES, json.dumps({**self.searches(), sweep: sentence}, indent=1).encode())

    def drop_search(self, sweep: str) -> None:
        """Deletes the progress of a sweep's search, and its study.  Raises StoreError."""
        if sweep in (searches := self.searches()):
            del searches[sweep]
            write_whole(self.results / SEARCHES, json.dumps(searches, indent=1).encode())
        (self.results / STUDIES / f"{sweep}.log").unlink(missing_ok=True)

    def searches(self) -> dict[str, str]:
        """Returns sweep -> progress of its search; {} if the file is unreadable."""
        try:
            return {
                str(name): str(sentence) for name, sentence in json.loads((self.results / SEARCHES).read_text()).items()
            }
        except (OSError, ValueError, AttributeError):
            return {}

    def note_tracking(self, note: Mapping[str, Any]) -> None:
        """Stores which trials MLflow holds, or the error that stopped filling it.  Raises StoreError."""
        write_whole(self.results / TRACKING, json.dumps(note, indent=1).encode())

    def tracking(self) -> dict[str, Any]:
        """Returns the last note on MLflow; {} if there is none or the file is unreadable."""
        try:
            return dict(json.loads((self.results / TRACKING).read_text()))
        except (OSError, ValueError, TypeError):
            return {}

    def note_progress(self, note: Mapping[str, Any]) -> None:
        """Stores the progress of the current launch; a failed write is ignored, since the next note follows soon."""
        with suppress(StoreError):
            write_whole(self.results / PROGRESS, json.dumps(note).encode())

    def progress(self) -> dict[str, Any]:
        """Returns the progress that a live launch noted last; {} if no launch runs or the file is unreadable."""
        if not locks.is_held(self.results, "launch"):
            return {}
        try:
            return dict(json.loads((self.results / PROGRESS).read_text()))
        except (OSError, ValueError, TypeError):
            return {}

    def running(self) -> set[str]:
        """Returns the ids of the trials that a live launch or its parts train; unreadable files are ignored."""
        if not locks.is_held(self.results, launch_lock.LAUNCH):
            return launch_lock.running_trials(self.results)
        return launch_lock.trials_in(self.results, self.results / RUNNING)
