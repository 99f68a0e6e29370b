"""What follows when a worker dies: its pack again, its halves, or quarantine. Knows nothing of who runs packs."""

from __future__ import annotations

from dataclasses import dataclass, replace

from memsweep.run.packing import Pack

TRIES = 3
"""Deaths in a row, without anything gained between them, after which a pack is searched for the guilty member."""
DEATHS = 24
"""Such deaths of one planned pack and its parts, after which what is left of it is quarantined."""


@dataclass(frozen=True)
class Turn:
    """A pack that waits for a worker, or has one."""

    pack: Pack
    origin: str  # the planned pack that it is, or is a part of
    tries: int = TRIES
    deaths: int = 0  # in a row, without anything gained
    reached: int = 0  # steps that checkpoints held of its trials when it joined those that wait
    left: int = 0  # steps of its trials still to be trained, as far as its worker has reported


def has_gained(turn: Turn, rest: Pack, reached: int) -> bool:
    """Whether a worker has settled or saved anything before it died.

    rest: what is left of the pack.  reached: steps that checkpoints hold of it.
    """
    return len(rest.trials) < len(turn.pack.trials) or reached > turn.reached


def after_death(turn: Turn, rest: Pack, *, gained: bool, hung: bool, is_spent: bool) -> list[Turn]:
    """What is to be run of the rest of a pack; nothing: it is to be quarantined.

    The same again, as long as something is gained, or for some tries with half the slots each time, in case memory was
    short; then its halves, one try each, down to the member that is alone with its guilt. A pack that hung is halved
    at once, because each try takes so long.  is_spent: too many deaths have come of this planned pack.
    """
    if gained:
        return [replace(turn, pack=rest, deaths=0)]
    deaths, slots = turn.deaths + 1, max(1, rest.slots // 2)
    if deaths < turn.tries and not hung and not is_spent:
        return [replace(turn, pack=replace(rest, slots=slots), deaths=deaths)]
    if is_spent or len(rest.trials) == 1:
        return []
    half = len(rest.trials) // 2
    parts = rest.trials[:half], rest.trials[half:]
    return [Turn(replace(rest, trials=part, slots=min(slots, len(part))), turn.origin, tries=1) for part in parts]
