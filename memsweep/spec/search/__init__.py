"""Searches: which trials of a question are worth running, round by round. Who runs them is elsewhere."""

from memsweep.spec.search.best import BestSearch, Range
from memsweep.spec.search.boundary import BoundarySearch
from memsweep.spec.search.capacity import CapacitySearch

__all__ = ["BestSearch", "BoundarySearch", "CapacitySearch", "Range"]
