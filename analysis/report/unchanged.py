"""Keeps drawn parts of the page for as long as the rows that they show stay the same."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, TypeVar

import pandas as pd
import pyarrow.compute as pc

from memsweep.results.storage.store import Store

Part = TypeVar("Part")


class Unchanged:
    """The drawn parts of a page, by name; a part is drawn again when its rows have changed."""

    def __init__(self) -> None:
        self._parts: dict[str, tuple[str, Any]] = {}  # name -> hash of its rows, what was drawn
        self._shown: dict[str, str] = {}  # of the current page: name -> hash

    def begin(self) -> None:
        """Begins a page."""
        self._shown = {}

    def has(self, name: str, rows: Any) -> bool:
        """Returns whether the part of this name was drawn with these rows.  rows: with a complete repr."""
        return self._parts.get(name, ("",))[0] == _hash(rows)

    def show(self, name: str, rows: Any) -> str:
        """Adds rows that the current page shows, under a name; returns their hash.  rows: as `has`."""
        self._shown[name] = _hash(rows)
        return self._shown[name]

    def drawn(self, name: str, rows: Any, draw: Callable[[], Part]) -> Part:
        """Returns the part of this name as it was drawn before, or draws it if its rows differ; as `show`."""
        content = self.show(name, rows)
        if not self.has(name, rows):
            self._parts[name] = content, draw()
        part: Part = self._parts[name][1]
        return part

    @property
    def version(self) -> str:
        """Returns a hash of the rows of all parts of the current page."""
        return hashlib.blake2b(repr(self._shown).encode(), digest_size=8).hexdigest()


def _hash(rows: Any) -> str:
    return hashlib.blake2b(repr(rows).encode(), digest_size=16).hexdigest()


def wanted_rows(sweep: str, store: Store) -> list[tuple[Any, ...]]:
    """Returns what identifies the trials that a sweep wants."""
    wanted = store.current("wanted", ["sweep", "trial_id", "position", "launch_id", "round", "probes", "metrics"])
    return _sorted(wanted.filter(pc.equal(wanted["sweep"], sweep)).to_pandas())


def stored_rows(sweep: str, store: Store) -> list[tuple[Any, ...]]:
    """Returns what identifies the stored rows of the trials that a sweep wants.

    Rows of an attempt never change, and its row of `trials` is the last that is written; a row of `packs` follows.
    """
    view = store.of_sweep(sweep)
    wanted = store.current("wanted", ["sweep", "trial_id"])
    ids = wanted.filter(pc.equal(wanted["sweep"], sweep))["trial_id"]
    trials = view.trials(["trial_id", "attempt_id", "status"])
    trials = trials.filter(pc.is_in(trials["trial_id"], value_set=ids.combine_chunks()))
    packs = view.current("packs", ["attempt_id"])["attempt_id"]
    packs = packs.filter(pc.is_in(packs, value_set=trials["attempt_id"].unique()))
    return [*_sorted(trials.to_pandas()), *sorted(packs.to_pylist())]


def _sorted(rows: pd.DataFrame) -> list[tuple[Any, ...]]:
    """Returns the rows in an order that does not depend on parts."""
    return list(rows.sort_values("trial_id").itertuples(index=False, name=None))
