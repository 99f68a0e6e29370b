"""The machine, the versions and the user's code that produced a number, as stored in the tables."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path

from memsweep.spec.code import Code, code_of


@cache
def versions() -> dict[str, str]:
    """Returns the columns of `trials` that name the machine and the versions."""
    return {
        "host": platform.node(),
        "memsweep_version": version("memsweep"),
        "torch_version": version("torch"),
    }


@cache
def user_code(imports: tuple[str, ...]) -> Code:
    """Returns the code behind these import paths as this process first read it, before it imported it."""
    return code_of(imports)


def forget() -> None:
    """Drops the code that this process has read, which may have changed since."""
    user_code.cache_clear()
    code_columns.cache_clear()


@cache
def code_columns(imports: tuple[str, ...]) -> dict[str, str | None]:
    """Returns the columns of `trials` that describe a user's code."""
    if not imports:
        return {}
    code = user_code(imports)
    return {
        "code_fingerprint": code.fingerprint,
        "code_commit": commit_of(Path(code.files[0])) if code.files else None,
        "code_packages": ", ".join(f"{name}=={number}" for name, number in code.packages.items()) or None,
    }


@cache
def commit() -> str | None:
    """Returns the commit of memsweep's code, where it runs from a git checkout; else None."""
    return commit_of(Path(__file__))


def commit_of(file: Path) -> str | None:
    """Returns the commit of the checkout that tracks this file, with -dirty where files differ from it; else None."""
    command = ["git", "-C", str(file.parent)]
    try:
        subprocess.run([*command, "ls-files", "--error-unmatch", file.name], check=True, capture_output=True)
        description = subprocess.run(
            [*command, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            check=True,
            capture_output=True,
            text=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return description.stdout.strip()


def device_name(device: str) -> str:
    """Returns the name of the accelerator, or of the processor."""
    import torch  # slow to import, and needed only here

    return torch.cuda.get_device_name() if device.startswith("cuda") else processor()


@cache
def processor() -> str:
    """Returns the processor's name in /proc/cpuinfo, else its architecture, and the instructions that torch uses.

    Virtual machines give one name to processors with and without AVX512, whose sums round otherwise.
    """
    import torch  # slow to import, and needed only here

    facts = Path("/proc/cpuinfo")
    lines = facts.read_text().splitlines() if facts.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"
