"""What follows a worker's death: the pack runs again, in halves, or is quarantined. Independent of how packs run."""

from __future__ import annotations

from dataclasses import dataclass, replace

from memsweep.run.packing import Pack

TRIES = 3
"""Deaths in a row without progress after which a pack is bisected to find the failing member."""
DEATHS = 24
"""After this many deaths without progress of a planned pack and its parts, the remaining trials are quarantined."""


@dataclass(frozen=True)
class Turn:
    """A pack that waits for a worker or runs on one."""

    pack: Pack
    origin: str  # id of the planned pack that contains it
    tries: int = TRIES
    deaths: int = 0  # in a row, without progress
    reached: int = 0  # steps of its trials in checkpoints when it was queued
    left: int = 0  # steps of its trials still to train, by its worker's last report


def made_progress(turn: Turn, rest: Pack, reached: int) -> bool:
    """Returns whether a worker settled or saved a trial before it died.

    rest: what is left of the pack.  reached: steps of the rest in checkpoints.
    """
    return len(rest.trials) < len(turn.pack.trials) or reached > turn.reached


def after_death(turn: Turn, rest: Pack, *, has_progress: bool, has_hung: bool, is_spent: bool) -> list[Turn]:
    """Returns the turns that follow a worker's death; empty: the rest of the pack is to be quarantined.

    With progress, the rest runs again. Without, it runs again for some tries, each with half the slots, in case memory
    was short; then its halves run, with one try each, until the failing member is alone. A pack that hung is halved at
    once, because each try takes long.  is_spent: this planned pack has caused too many deaths.
    """
    if has_progress:
        return [replace(turn, pack=rest, deaths=0)]
    deaths, slots = turn.deaths + 1, max(1, rest.slots // 2)
    if deaths < turn.tries and not has_hung and not is_spent:
        return [replace(turn, pack=replace(rest, slots=slots), deaths=deaths)]
    if is_spent or len(rest.trials) == 1:
        return []
    half = len(rest.trials) // 2
    parts = rest.trials[:half], rest.trials[half:]
    return [Turn(replace(rest, trials=part, slots=min(slots, len(part))), turn.origin, tries=1) for part in parts]
