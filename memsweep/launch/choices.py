"""How each program of a results folder is executed: chosen when it is first launched there, and kept.

A compiled program rounds its last bits otherwise than the same program uncompiled. So the choice must not change when
a launch is resumed with less to do, and it is stored beside the tables.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable

from memsweep.config import TrialConfig
from memsweep.launch.packing import program_name
from memsweep.results.store import Store

COMPILE_SECONDS = 6.0
"""What compiling a program costs each worker, cached on disk; 15 to 30 s the first time on a machine."""
SAVED_SECONDS = 60e-6
"""What a compiled program saves a member step on one CPU core, at least: 55 to 90 us were seen at widths 8 to 32."""


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
        name: stored.get(name, possible and steps / workers * SAVED_SECONDS > COMPILE_SECONDS)
        for name, steps in member_steps.items()
    }


def has_compiler() -> bool:
    """Whether the C++ compiler is here that torch would use."""
    return shutil.which(os.environ.get("CXX", "g++")) is not None
