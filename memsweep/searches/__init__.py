"""Searches: which trials of a question are worth running, round by round. Who runs them is elsewhere."""

from memsweep.searches.best import BestSearch, Range
from memsweep.searches.boundary import BoundarySearch
from memsweep.searches.capacity import CapacitySearch

__all__ = ["BestSearch", "BoundarySearch", "CapacitySearch", "Range"]
