"""A cache of data that is in use, or was used recently, so that it is not built twice."""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar

CACHE_BYTES = 1 << 28
"""Bytes of the most recent values that stay in memory in addition to values in use."""


class Sized(Protocol):
    """A value with a size in bytes."""

    @property
    def nbytes(self) -> int:
        """Returns the bytes of the value's arrays."""


Value = TypeVar("Value", bound=Sized)


class SharedCache(Generic[Value]):
    """Cache of values by key: all values in use, and the most recent values up to CACHE_BYTES."""

    def __init__(self) -> None:
        self._in_use: weakref.WeakValueDictionary[Hashable, Value] = weakref.WeakValueDictionary()
        self._recent: OrderedDict[Hashable, Value] = OrderedDict()
        self._recent_bytes = 0
        self._lock = threading.RLock()

    def get(self, key: Hashable, build: Callable[[], Value]) -> Value:
        """Returns the cached value of a key, or builds and caches it."""
        with self._lock:
            value = self._in_use.get(key) or build()
            if key not in self._recent:
                self._recent_bytes += value.nbytes
            self._in_use[key] = self._recent[key] = value
            self._recent.move_to_end(key)
            while self._recent_bytes > CACHE_BYTES:
                self._recent_bytes -= self._recent.popitem(last=False)[1].nbytes
            return value

    def clear(self) -> None:
        """Drops all values."""
        with self._lock:
            self._in_use.clear()
            self._recent.clear()
            self._recent_bytes = 0
