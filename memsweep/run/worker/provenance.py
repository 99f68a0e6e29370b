"""The machine and versions that produced a number, as stored in the tables."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path


@cache
def versions() -> dict[str, str]:
    """Returns the columns of `trials` that name the machine and the versions."""
    return {
        "host": platform.node(),
        "memsweep_version": version("memsweep"),
        "torch_version": version("torch"),
    }


@cache
def commit() -> str | None:
    """Returns the commit of this code, where it runs from a git checkout; else None."""
    home = Path(__file__).parent
    command = ["git", "-C", str(home)]
    try:
        subprocess.run([*command, "ls-files", "--error-unmatch", Path(__file__).name], check=True, capture_output=True)
        description = subprocess.run(
            [*command, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            check=True,
            capture_output=True,
            text=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return description.stdout.strip()


@cache
def processor() -> str:
    """Returns the processor's name in /proc/cpuinfo, else its architecture."""
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text().splitlines() if facts.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
