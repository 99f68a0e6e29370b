"""How each program of a results folder is executed: chosen when it is first launched there, and kept.

A compiled program rounds its last bits otherwise than the same program uncompiled. So the choice must not change when
a launch is resumed with less to do, and it is stored beside the tables.
"""

from __future__ import annotations

import getpass
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from memsweep.config import TrialConfig
from memsweep.launch.packing import program_name
from memsweep.results.store import Store

COMPILE_SECONDS = {"cached": 7.0, "new": 28.0}
"""What compiling a program costs each worker, and the first time on a machine, two workers at the same time."""
SAVED_SECONDS = 80e-6
"""What a compiled program saves a member step with its share of evaluation on one CPU core: 93 us at width 32."""


def compiled_programs(
    trials: Iterable[TrialConfig], store: Store | None, device: str, workers: int, wish: bool | None = None
) -> dict[str, bool]:
    """Program name -> whether it is compiled, of all programs of these trials.

    A stored choice is kept; a new program is compiled on CPUs with a C++ compiler, where it saves more than it costs.
    store: None where nothing is stored yet.  wish: unless None, it overrules all that.
    """
    member_steps: dict[str, int] = {}
    for trial in trials:
        name = program_name(trial)
        member_steps[name] = member_steps.get(name, 0) + trial.budget
    stored = store.compiled_programs() if store else {}
    if wish is not None:
        return dict.fromkeys(member_steps, wish)
    possible = device == "cpu" and has_compiler()
    return {
        name: stored.get(name, possible and steps / workers * SAVED_SECONDS > compile_seconds(name))
        for name, steps in member_steps.items()
    }


def compile_seconds(program: str) -> float:
    """What compiling this program will cost each worker here, about."""
    return COMPILE_SECONDS["cached" if _marker(program).exists() else "new"]


def note_cached(program: str) -> None:
    """Remembers that this machine has compiled the program; torch keeps the machine code."""
    with suppress(OSError):  # a mark that cannot be made costs an estimate
        _marker(program).parent.mkdir(parents=True, exist_ok=True)
        _marker(program).touch()


def _marker(program: str) -> Path:
    """In torch's own folder of compiled programs, so that the mark goes when they go."""
    default = Path(tempfile.gettempdir(), f"torchinductor_{getpass.getuser()}")
    digest = hashlib.blake2b(f"{program} {version('torch')} {version('memsweep')}".encode(), digest_size=6).hexdigest()
    return Path(os.environ.get("TORCHINDUCTOR_CACHE_DIR", default), "memsweep", digest)


def has_compiler() -> bool:
    """Whether the C++ compiler is here that torch would use."""
    return shutil.which(os.environ.get("CXX", "g++")) is not None
