"""A store that reads each table once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import pyarrow as pa

from memsweep.results.storage import accepted
from memsweep.results.storage.location import Location
from memsweep.results.storage.store import Store


class Snapshot(Store):
    """A store that reads each table once, at its first use: for many queries on the same results."""

    def __init__(self, results: str | Location):
        super().__init__(results)
        self._tables: dict[str, pa.Table] = {}
        self._views: dict[str, Store] = {}

    def trials(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Returns one attempt per trial; see `Store.trials`."""
        return self._once("trials", super().trials, columns)

    def of_sweep(self, sweep: str) -> Store:
        """Returns the snapshot as this sweep reads it; see `Store.of_sweep`."""
        if not accepted.has_code(self.trials(["code_fingerprint"])):
            return self  # no attempt is left out for its code, or no other attempt counts either
        if sweep not in self._views:
            view = super().of_sweep(sweep)
            assert isinstance(view, Snapshot)
            view._tables = {name: self.current(name) for name in ("wanted",)}
            self._views[sweep] = view
        return self._views[sweep]

    def current(self, table: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Returns the rows that readers see; see `Store.current`."""
        if table == "trials":
            return self.trials(columns)
        return self._once(table, partial(super().current, table), columns)

    def _once(self, table: str, read: Callable[[], pa.Table], columns: Sequence[str] | None) -> pa.Table:
        if table not in self._tables:
            self._tables[table] = read()
        return self._tables[table].select(self._tables[table].column_names if columns is None else list(columns))
