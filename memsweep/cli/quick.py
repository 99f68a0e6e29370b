"""Keeps commands from importing pandas, which takes 0.3 s, where they make no pandas frames."""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder
from typing import Any


class _NoPandas(MetaPathFinder):
    """Makes an import of pandas fail."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> None:
        """Raises ModuleNotFoundError for pandas."""
        if fullname == "pandas":
            raise ModuleNotFoundError(fullname)


def without_pandas() -> None:
    """Lets pyarrow find no pandas, which it imports to look for its types in any list; `to_pandas` still imports it."""
    if "pandas" not in sys.modules:
        import pyarrow as pa

        sys.meta_path.insert(0, finder := _NoPandas())
        try:
            pa.array([])
        finally:
            sys.meta_path.remove(finder)
