"""How many processors, and how much memory, this process has been allotted, on a machine that others may share.

What is installed is of no interest: a launch that takes all of it stands in its own way, and in that of others. Counted
are the processors that the system lets this process run on (affinity), the quota of its control groups (containers,
systemd, batch systems), and what SLURM says of the job.
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
    """Processors that this process may keep busy, at least 1; part of one counts only where there is no whole one."""
    counts: list[float] = [installed(), *_affinity(), *_slurm(), *map(_quota, _groups("cpu"))]
    return max(1, int(min(counts)))


def installed() -> int:
    """Processors of the machine."""
    return os.cpu_count() or 1


def memory_left() -> float:
    """Bytes that the control groups of this process still allow; infinite where they set no limit."""
    return min(map(_memory_left, _groups("memory")), default=float("inf"))


def _affinity() -> Iterator[int]:
    with suppress(AttributeError, OSError):  # not every system has it
        yield len(os.sched_getaffinity(0))


def _slurm() -> Iterator[int]:
    for name in SLURM:
        text = os.environ.get(name, "")
        if text.isdecimal() and int(text):
            yield int(text)


def _quota(group: Path) -> float:
    """Processors that this group may keep busy."""
    with suppress(OSError, ValueError):
        quota, period = (group / "cpu.max").read_text().split()
        return int(quota) / int(period) if quota != "max" else float("inf")
    with suppress(OSError, ValueError):  # version 1
        quota, period = ((group / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return int(quota) / int(period) if int(quota) > 0 else float("inf")
    return float("inf")


def _memory_left(group: Path) -> float:
    """Files that the system may drop from memory count as left."""
    for limit, usage, dropped in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        with suppress(OSError, ValueError):  # of the other version, or "max"
            lines = (group / "memory.stat").read_text().splitlines()
            cache = sum(int(line.split()[1]) for line in lines if line.startswith(f"{dropped} "))
            used = int((group / usage).read_text()) - cache
            return max(0, int((group / limit).read_text()) - used)
    return float("inf")


def _groups(controller: str) -> Iterator[Path]:
    """The folders of this process's control groups, and of those around them, whose limits hold too."""
    with suppress(OSError):
        for line in (PROC / "cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers or controller in controllers.split(","):
                for mount, root in _mounts(controller if controllers else ""):
                    inner = PurePosixPath(path)
                    is_below = inner.is_relative_to(root) and ".." not in inner.parts  # else of another namespace
                    folder = mount / inner.relative_to(root) if is_below else mount
                    yield folder
                    yield from (parent for parent in folder.parents if parent.is_relative_to(mount))


def _mounts(controller: str) -> Iterator[tuple[Path, str]]:
    """Where control groups are seen, and which of them is seen there.  controller: of version 1; empty: version 2."""
    for line in (PROC / "mountinfo").read_text().splitlines():
        place, _, system = line.partition(" - ")
        kind, _, options = system.split(" ", 2)
        if (kind == "cgroup" and controller in options.split(",")) if controller else kind == "cgroup2":
            _, _, _, root, mount, *_ = place.split(" ")
            yield Path(re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), mount)), root
