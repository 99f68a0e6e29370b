"""Reading the parts of a table, in parallel where that pays, also while they are being merged."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from memsweep.results.storage.location import Location
from memsweep.results.storage.own_tables import Tables
from memsweep.results.storage.parts import StoreError
from memsweep.spec import processors

READERS = 16  # parts of an object store that are read in parallel: its latency is long, its transfers are fast
PATHS_A_THREAD = 500  # parts of a folder for each thread that reads them
PATHS_AT_ONCE = 50  # parts that a thread reads before it hands them over, which costs as much as a third of a part
_Piece = TypeVar("_Piece")


class Reading(Tables):
    """The parts of one results folder, as readers of its store get them."""

    def _of_parts(self, table: str, read: Callable[[Location], _Piece]) -> list[_Piece]:
        """Returns what `read` returns for each part, also while parts are being merged.

        A merged part is complete before its sources are deleted, so the next listing contains it. If a source was read
        before, its rows occur twice.
        """

        def piece(path: Location) -> list[_Piece]:
            try:
                return [read(path)]
            except FileNotFoundError as error:
                if isinstance(path, Path) and os.path.lexists(path):  # then it was not deleted by a merge
                    raise StoreError(
                        f"{path} is a link to a missing file. Restore that file, or delete the link and launch again: "
                        "only the trials that it held run again."
                    ) from error
                return []

        pieces, seen = list[_Piece](), set[Location]()
        while new := [path for path in self.parts(table) if path not in seen]:
            seen.update(new)
            for piece_rows in self.each(piece, new):
                pieces += piece_rows
        return pieces

    def each(self, act: Callable[[Location], _Piece], paths: Sequence[Location]) -> Iterator[_Piece]:
        """Yields what `act` returns for each path, in order; runs in parallel for object stores and for many paths."""
        is_disk = isinstance(self.results, Path)
        count = min(processors.allotted(), len(paths) // PATHS_A_THREAD) if is_disk else READERS
        if count < 2 or len(paths) < 2:
            yield from map(act, paths)
            return
        length = PATHS_AT_ONCE if is_disk else 1
        groups = (paths[start : start + length] for start in range(0, len(paths), length))
        with ThreadPoolExecutor(count) as readers:
            for pieces in readers.map(lambda group: [act(path) for path in group], groups):
                yield from pieces
