"""Notes and tags that a person gives to a sweep."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from memsweep.results.storage.store import Store, StoreError
from memsweep.spec.sweep import SWEEP_NAME

NOTE, TAG, UNTAG, RENAME, CLEAR = "note", "tag", "untag", "rename", "clear"
"""Values of `notes.action`."""


class Remarks(NamedTuple):
    """What a sweep's notes and tags are now."""

    notes: tuple[tuple[datetime, str], ...] = ()  # oldest first
    tags: tuple[str, ...] = ()  # sorted

    def __str__(self) -> str:
        lines = [f"{when:%Y-%m-%d %H:%M} UTC: {text}" for when, text in self.notes]
        return "\n".join([*lines, *([f"tags: {', '.join(self.tags)}"] if self.tags else [])])


def of_sweeps(store: Store) -> dict[str, Remarks]:
    """Returns sweep -> its notes and tags, for sweeps that have any."""
    notes: dict[str, list[tuple[datetime, str]]] = {}
    tags: dict[str, set[str]] = {}
    for row in store.current("notes").sort_by([("noted_at", "ascending"), ("action", "ascending")]).to_pylist():
        sweep, text = row["sweep"], row["text"]
        if row["action"] == NOTE:
            notes.setdefault(sweep, []).append((row["noted_at"], text))
        elif row["action"] == TAG:
            tags.setdefault(sweep, set()).add(text)
        elif row["action"] == UNTAG:
            tags.get(sweep, set()).discard(text)
        else:
            old_notes, old_tags = notes.pop(sweep, []), tags.pop(sweep, set())
            if row["action"] == RENAME:
                notes[text], tags[text] = old_notes, old_tags
    remarks = {name: Remarks(tuple(notes.get(name, ())), tuple(sorted(tags.get(name, ())))) for name in notes | tags}
    return {name: remark for name, remark in sorted(remarks.items()) if any(remark)}


def write(
    store: Store, sweep: str, text: str | None = None, *, tags: Iterable[str] = (), untags: Iterable[str] = ()
) -> None:
    """Adds a note and tags to a sweep, and removes tags.  Raises StoreError for an unknown sweep or an invalid text."""
    check_sweep(store, sweep)
    pairs = [(NOTE, text)] * (text is not None) + [(TAG, tag) for tag in tags] + [(UNTAG, tag) for tag in untags]
    for action, words in pairs:
        if action == NOTE and not (words or "").strip():
            raise StoreError("the note is empty; write its text in quotes, or leave it out to read the notes.")
        if action != NOTE and not SWEEP_NAME.fullmatch(words or ""):
            raise StoreError(
                f"tag {words!r}: must be letters, digits, '_', '-' or '.', and begin with a letter or digit."
            )
    add(store, sweep, pairs)


def add(store: Store, sweep: str, pairs: Iterable[tuple[str, str | None]]) -> None:
    """Stores (action, text) pairs of a sweep, later than all that are stored."""
    newest = max(filter(None, store.read("notes", ["noted_at"])["noted_at"].to_pylist()), default=None)
    at = max(datetime.now(UTC), newest + timedelta(microseconds=1) if newest else datetime.min.replace(tzinfo=UTC))
    rows = [{"sweep": sweep, "action": action, "text": text, "noted_at": at} for action, text in pairs]
    if rows:
        store.write("notes", rows)


def check_sweep(store: Store, sweep: str) -> None:
    """Raises StoreError if no launch of this sweep is stored."""
    there = set(store.read("wanted", ["sweep"])["sweep"].to_pylist())
    if sweep not in there:
        raise StoreError(f"no sweep {sweep!r} in {store.results}; there: {', '.join(sorted(there)) or 'none'}.")
