"""Processors and memory that this process may use on a shared machine.

The installed processors are only an upper bound: a launch that takes all of them slows itself and other users down. The
count is the minimum over the CPU affinity, the quotas of the control groups (containers, systemd, batch systems) and
SLURM's environment variables.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

SLURM = ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE")
PROC = Path("/proc/self")


def allotted() -> int:
    """Returns how many processors this process may keep busy: rounded down to a whole number, at least 1."""
    counts: list[float] = [installed(), *_affinity(), *_slurm(), *map(_quota, _groups("cpu"))]
    return max(1, int(min(counts)))


def installed() -> int:
    """Returns the number of processors of the machine."""
    return os.cpu_count() or 1


def memory_left() -> float:
    """Returns the bytes that the control groups of this process still allow; infinite if they set no limit."""
    return min(map(_memory_left, _groups("memory")), default=float("inf"))


def _affinity() -> Iterator[int]:
    with suppress(AttributeError, OSError):  # not every system has affinities
        yield len(os.sched_getaffinity(0))


def _slurm() -> Iterator[int]:
    for name in SLURM:
        text = os.environ.get(name, "")
        if text.isdecimal() and int(text):
            yield int(text)


def _quota(group: Path) -> float:
    """Returns how many processors this control group may keep busy; infinite without a quota."""
    with suppress(OSError, ValueError):
        quota, period = (group / "cpu.max").read_text().split()
        return int(quota) / int(period) if quota != "max" else float("inf")
    with suppress(OSError, ValueError):  # version 1
        quota, period = ((group / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return int(quota) / int(period) if int(quota) > 0 else float("inf")
    return float("inf")


def _memory_left(group: Path) -> float:
    """Returns the bytes that this control group still allows; cached files that the system may drop are not in use."""
    for limit, usage, dropped in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        with suppress(OSError, ValueError):  # files of the other cgroup version, or "max"
            lines = (group / "memory.stat").read_text().splitlines()
            cache = sum(int(line.split()[1]) for line in lines if line.startswith(f"{dropped} "))
            used = int((group / usage).read_text()) - cache
            return max(0, int((group / limit).read_text()) - used)
    return float("inf")


def _groups(controller: str) -> Iterator[Path]:
    """Yields the folders of this process's control groups and of their parents, whose limits apply too."""
    with suppress(OSError):
        for line in (PROC / "cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers or controller in controllers.split(","):
                for mount, root in _mounts(controller if controllers else ""):
                    inner = PurePosixPath(path)
                    is_below = inner.is_relative_to(root) and ".." not in inner.parts  # else: another namespace
                    folder = mount / inner.relative_to(root) if is_below else mount
                    yield folder
                    yield from (parent for parent in folder.parents if parent.is_relative_to(mount))


def _mounts(controller: str) -> Iterator[tuple[Path, str]]:
    """Yields (mount point, root group) of each mounted cgroup file system.

    controller: name of a version 1 controller; empty: version 2.
    """
    for line in (PROC / "mountinfo").read_text().splitlines():
        place, _, system = line.partition(" - ")
        kind, _, options = system.split(" ", 2)
        if (kind == "cgroup" and controller in options.split(",")) if controller else kind == "cgroup2":
            _, _, _, root, mount, *_ = place.split(" ")
            yield Path(re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), mount)), root
