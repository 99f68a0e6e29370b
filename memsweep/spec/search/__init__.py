"""Searches: which trials of a sweep to run, round by round. `memsweep/run/rounds/` runs them."""

from memsweep.spec.search.best import BestSearch, Range
from memsweep.spec.search.boundary import BoundarySearch
from memsweep.spec.search.capacity import CapacitySearch

__all__ = ["BestSearch", "BoundarySearch", "CapacitySearch", "Range"]
