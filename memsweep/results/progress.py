"""Progress of a launch in this folder, as its driver noted it: steps, rate, and the packs at work."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from memsweep.results.storage import clock
from memsweep.results.storage.notes import PROGRESS
from memsweep.results.storage.store import Store

SHOWN_PACKS = 20
"""Most packs listed."""
LATE_SECONDS = 60.0
"""Age of a note that is shown: its driver hangs, or does not write."""


def sentences(store: Store, duration: Callable[[float], str]) -> list[str]:
    """Returns a sentence on the launch that runs, and one on each pack at work; [] if no launch runs.

    duration: returns seconds as text for people.
    """
    note = store.progress()
    if not note:
        return []
    try:
        now = datetime.fromisoformat(note["written_at"])  # by the driver's clock, as the other times
        packs = [_pack(pack, now, duration) for pack in note["packs"]]
        rest = [f"and {len(packs) - SHOWN_PACKS} other packs"] if len(packs) > SHOWN_PACKS else []
        return [_launch(note, now, _age_of_note(store), duration), *packs[:SHOWN_PACKS], *rest]
    except (KeyError, TypeError, ValueError):  # a note of another version
        return []


def _launch(note: Mapping[str, Any], now: datetime, late: float, duration: Callable[[float], str]) -> str:
    steps, left, rate = note["steps"], note["left"], note["rate"]
    parts = [f"launch at work for {_age(note['began_at'], now, duration)}: {note['phase']}"]
    if steps:
        parts.append(f"{steps - left:,} of {steps:,} steps ({(steps - left) / steps:.0%})")
    if rate:
        parts.append(f"{rate:,.0f} steps/s")
        parts += [f"about {duration(left / rate)} left"] if left else []
    return ", ".join([*parts, *([f"as of {duration(late)} ago"] if late > LATE_SECONDS else [])])


def _pack(pack: Mapping[str, Any], now: datetime, duration: Callable[[float], str]) -> str:
    age = _age(pack["began_at"], now, duration)
    return (
        f"pack {pack['pack_id']} on {pack['host'] or 'its way to a worker'} for {age}: {pack['phase']}, "
        f"{pack['trials']} trials, {pack['left']:,} steps left; {pack['program']}"
    )


def _age(begin: str, now: datetime, duration: Callable[[float], str]) -> str:
    return duration(max(0.0, (now - datetime.fromisoformat(begin)).total_seconds()))


def _age_of_note(store: Store) -> float:
    """Returns seconds since the note was written; the folder's clock decides where this machine's shows another age."""
    try:
        written = (store.results / PROGRESS).stat().st_mtime
    except OSError:
        return 0.0
    late = time.time() - written
    return late if abs(late) <= LATE_SECONDS else clock.now(store.results) - written
