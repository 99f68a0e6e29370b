"""The C library's allocator in a worker, whose steps allocate and free the same tensors again and again."""

from __future__ import annotations

import ctypes
import os
import platform

TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3
"""Numbers of glibc's `mallopt` options."""
KEPT_BYTES = 512 << 20
"""Most free memory at the end of the heap that is kept."""
GROWTH_BYTES = 16 << 20
"""By how much the heap grows more than it must."""
LARGEST_BYTES = 32 << 20
"""Largest block of the heap, glibc's limit; a larger block is mapped, and returned to the system when it is freed."""
SETTINGS = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")
"""Beginnings of environment variables by which a user chooses an allocator or sets it."""


def keep_freed() -> bool:
    """Lets freed memory be used again instead of returned to the system; returns whether this C library can.

    Otherwise each step may return its tensors' memory, and the system has to clear the same pages again, which took up
    to a seventh of a step of wide networks. The user's own settings stay.
    """
    if not _is_glibc() or any(name.startswith(SETTINGS) for name in os.environ):
        return False
    options = {TRIM_THRESHOLD: KEPT_BYTES, TOP_PAD: GROWTH_BYTES, MMAP_THRESHOLD: LARGEST_BYTES}
    library = ctypes.CDLL(None)
    return all([library.mallopt(option, size) for option, size in options.items()])


def return_freed() -> bool:
    """Returns freed memory to the system, between packs; returns whether there was any, False without glibc."""
    return _is_glibc() and bool(ctypes.CDLL(None).malloc_trim(0))


def _is_glibc() -> bool:
    return platform.libc_ver()[0] == "glibc"
