"""Processors, memory and GPUs that this process may use on a shared machine.

What is installed is only an upper bound: a launch that takes all of it slows itself and other users down. Processors
are the minimum over the CPU affinity, the quotas of the control groups (containers, systemd, batch systems) and SLURM's
environment variables; memory is the minimum over the control groups and SLURM's variables; GPUs are those that
CUDA_VISIBLE_DEVICES lists.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

SLURM = ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE")
SLURM_MEMORY = ("SLURM_MEM_PER_NODE", "SLURM_MEM_PER_CPU")
"""Variables in MiB; 0: all memory of the node. SLURM sets one of them where a job has a limit."""
GPUS = "CUDA_VISIBLE_DEVICES"
DRIVER = Path("/proc/driver/nvidia/gpus")
PROC = Path("/proc/self")


def allotted() -> int:
    """Returns how many processors this process may keep busy: rounded down to a whole number, at least 1."""
    counts: list[float] = [installed(), *_affinity(), *_slurm(), *map(_quota, _groups("cpu"))]
    return max(1, int(min(counts)))


def installed() -> int:
    """Returns the number of processors of the machine."""
    return os.cpu_count() or 1


def memory() -> int:
    """Returns the bytes of memory that this process may use, with all that runs beside it in its job or container."""
    return int(min([installed_memory(), *_slurm_memory(), *map(_memory_limit, _groups("memory"))]))


def installed_memory() -> int:
    """Returns the bytes of memory of the machine."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def memory_left() -> float:
    """Returns the bytes that the control groups still allow, at most SLURM's limit; infinite if there is no limit."""
    return min([*_slurm_memory(), *map(_memory_left, _groups("memory"))], default=float("inf"))


def gpus() -> int | None:
    """Returns how many GPUs CUDA_VISIBLE_DEVICES lists, up to the first invalid entry; None: the variable is not set.

    CUDA, torch and Ray read the variable themselves, so this count is only shown.
    """
    text = os.environ.get(GPUS)
    if text is None:
        return None
    count = 0
    for entry in filter(None, text.split(",")):
        if not re.match(r"\s*(\d|GPU-|MIG-)", entry):  # -1, NoDevFiles
            break
        count += 1
    return count


def installed_gpus() -> int:
    """Returns the number of NVIDIA GPUs of the machine, as its driver lists them."""
    return len(list(DRIVER.iterdir())) if DRIVER.is_dir() else 0


def _affinity() -> Iterator[int]:
    with suppress(AttributeError, OSError):  # not every system has affinities
        yield len(os.sched_getaffinity(0))


def _slurm() -> Iterator[int]:
    for name in SLURM:
        text = os.environ.get(name, "")
        if text.isdecimal() and int(text):
            yield int(text)


def _slurm_memory() -> Iterator[int]:
    for name in SLURM_MEMORY:
        text = os.environ.get(name, "")
        if text.isdecimal() and int(text):
            share = max(_slurm(), default=allotted()) if name == "SLURM_MEM_PER_CPU" else 1
            yield int(text) * share << 20


def _quota(group: Path) -> float:
    """Returns how many processors this control group may keep busy; infinite without a quota."""
    with suppress(OSError, ValueError):
        quota, period = (group / "cpu.max").read_text().split()
        return int(quota) / int(period) if quota != "max" else float("inf")
    with suppress(OSError, ValueError):  # version 1
        quota, period = ((group / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return int(quota) / int(period) if int(quota) > 0 else float("inf")
    return float("inf")


_MEMORY_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
"""Of each version of control groups: files of the limit and of the usage, and the line of cached files."""


def _memory_limit(group: Path) -> float:
    """Returns the bytes that this control group may use; infinite without a limit."""
    for limit, _, _ in _MEMORY_FILES:
        with suppress(OSError, ValueError):  # files of the other cgroup version, or "max"
            return int((group / limit).read_text())
    return float("inf")


def _memory_left(group: Path) -> float:
    """Returns the bytes that this control group still allows; cached files that the system may drop are not in use."""
    for limit, usage, dropped in _MEMORY_FILES:
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
