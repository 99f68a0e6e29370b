"""Progress of a launch in this folder, as its driver noted it: steps, rate, and the packs at work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from memsweep.results.storage.store import Store

SHOWN_PACKS = 20
"""Most packs listed."""


def sentences(store: Store, duration: Callable[[float], str]) -> list[str]:
    """Returns a sentence on the launch that runs, and one on each pack at work; [] if no launch runs.

    duration: returns seconds as text for people.
    """
    note = store.progress()
    if not note:
        return []
    try:
        now = datetime.now(UTC)
        packs = [_pack(pack, now, duration) for pack in note["packs"]]
        rest = [f"and {len(packs) - SHOWN_PACKS} other packs"] if len(packs) > SHOWN_PACKS else []
        return [_launch(note, now, duration), *packs[:SHOWN_PACKS], *rest]
    except (KeyError, TypeError, ValueError):  # a note of another version
        return []


def _launch(note: Mapping[str, Any], now: datetime, duration: Callable[[float], str]) -> str:
    steps, left, rate = note["steps"], note["left"], note["rate"]
    parts = [f"launch at work for {_age(note['began_at'], now, duration)}: {note['phase']}"]
    if steps:
        parts.append(f"{steps - left:,} of {steps:,} steps ({(steps - left) / steps:.0%})")
    if rate:
        parts.append(f"{rate:,.0f} steps/s")
        parts += [f"about {duration(left / rate)} left"] if left else []
    late = (now - datetime.fromisoformat(note["written_at"])).total_seconds()
    return ", ".join([*parts, *([f"as of {duration(late)} ago"] if late > 60 else [])])


def _pack(pack: Mapping[str, Any], now: datetime, duration: Callable[[float], str]) -> str:
    age = _age(pack["began_at"], now, duration)
    return (
        f"pack {pack['pack_id']} on {pack['host'] or 'its way to a worker'} for {age}: {pack['phase']}, "
        f"{pack['trials']} trials, {pack['left']:,} steps left; {pack['program']}"
    )


def _age(begin: str, now: datetime, duration: Callable[[float], str]) -> str:
    return duration(max(0.0, (now - datetime.fromisoformat(begin)).total_seconds()))
