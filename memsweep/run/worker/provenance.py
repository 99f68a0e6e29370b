"""Where and by which code a number was made: what tables store of the machine and of memsweep."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path


@cache
def versions() -> dict[str, str]:
    """The columns of `trials` that say where it ran, and by which versions."""
    return {
        "host": platform.node(),
        "memsweep_version": version("memsweep"),
        "torch_version": version("torch"),
    }


@cache
def commit() -> str | None:
    """The commit that this code is at, where it runs from a checkout of its own and git is there to ask."""
    home = Path(__file__).parent
    ask = ["git", "-C", str(home)]
    try:
        subprocess.run([*ask, "ls-files", "--error-unmatch", Path(__file__).name], check=True, capture_output=True)
        told = subprocess.run(
            [*ask, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            check=True,
            capture_output=True,
            text=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return told.stdout.strip()


@cache
def processor() -> str:
    """The processor's name as Linux tells it, else its architecture."""
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text().splitlines() if facts.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
