"""Keeps commands from importing pandas, which takes 0.3 s, where they make no pandas frames."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib.abc import MetaPathFinder
from typing import TYPE_CHECKING, Any

from memsweep.spec.axes import as_values

if TYPE_CHECKING:
    from memsweep.spec.sweep import Sweep


class _NoPandas(MetaPathFinder):
    """Makes an import of pandas fail."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> None:
        """Raises ModuleNotFoundError for pandas."""
        if fullname == "pandas":
            raise ModuleNotFoundError(fullname)


def without_pandas(sweeps: Iterable[Sweep] = ()) -> None:
    """Lets pyarrow find no pandas, which it imports to look for its types in any list; `to_pandas` still imports it.

    sweeps: that this process checks; with a user's code among them nothing is changed, since that code may use pandas.
    """
    if "pandas" not in sys.modules and not any(map(_runs_own_code, sweeps)):
        import pyarrow as pa

        sys.meta_path.insert(0, finder := _NoPandas())
        try:
            pa.array([])
        finally:
            sys.meta_path.remove(finder)


def _runs_own_code(sweep: Sweep) -> bool:
    """Returns whether a text of the sweep's first trial, or of an axis, may be an import path."""
    values = (value for axis in sweep.axes.values() for zipped in axis for value in as_values(zipped))
    return bool(next(iter(sweep)).imports) or any(isinstance(value, str) and ":" in value for value in values)
