"""Measured costs of programs: what a calibration returns, and where this machine keeps it for later results folders.

A measurement is kept in torch's folder of compiled programs, in a file named by a hash of all that it depends on, and
read again until it is KEPT_SECONDS old. How a program runs is chosen anew from it in each results folder.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from memsweep.results.storage.parts import StoreError, write_whole
from memsweep.run.policy.execution_plan import variant
from memsweep.spec import compiled_code, processors
from memsweep.spec.code import code_of
from memsweep.spec.config import DEFAULTS, ConfigError, TrialConfig
from memsweep.spec.contents import has_content
from memsweep.spec.options import STREAMS

VARIABLE = "MEMSWEEP_KEEP_CALIBRATIONS"
"""Environment variable; 0: measurements are neither kept nor read."""
FORMAT = 1
"""Number of the files' format; files of another number have other names."""
KEPT_SECONDS = 30 * 86400.0
"""Age from which a program is measured again: a name can't hold how fast the processor ran, nor what else used its
caches. A disturbed measurement costs speed alone, and a month bounds for how long."""
ROOMS = ("engine", "data", "spec", "run/policy", "run/worker")
"""Folders of memsweep whose code is measured, or measures."""
PROCESSOR: tuple[str, ...] = ("model name", "cpu family", "model", "stepping", "cache size", "flags")
PROCESSOR += ("CPU implementer", "CPU variant", "CPU part", "CPU revision", "Features")
"""Lines of /proc/cpuinfo that describe a processor: on x86, and on ARM."""
SETTINGS = ("ATEN_", "MKL_", "KMP_", "DNNL_", "ONEDNN_", "MALLOC_", "GLIBC_", "THP_", "LD_PRELOAD")
"""Beginnings of environment variables that change the speed of torch. Workers have one thread, whatever OMP_* say."""
MOST_TRIALS = 4096
"""Most trials of a program that are measured, or looked at for code that they add to it."""
FUSED_MEMBERS = {"cpu": (8, 32, 64), "cuda": (64, 512, 4096)}
"""Members of the fused packs that are measured, by device."""
GAIN = 0.97
"""A larger or fused pack is chosen where its step takes at most this share of the alternative's time."""


class Timing(NamedTuple):
    """The measured cost of a program in one mode and pack size."""

    mode: str
    members: int
    seconds: float  # of one step of one member, uncompiled
    bytes_a_member: int  # at most
    is_clean: bool = False  # timed after the warm-up, while the process had a processor to itself


class Calibration(NamedTuple):
    """The measurements of one program."""

    timings: tuple[Timing, ...]
    lift_problem: str = ""  # why its members cannot be fused, naming the line; empty: they can
    free_bytes: int = 0  # of the GPU's memory, before the measurement; 0 on a CPU
    measured_at: float = 0.0  # seconds since 1970
    is_whole: bool = False  # nothing failed, and each timing is clean
    is_kept: bool = False  # it was measured on this machine before

    def best(self, saved: Callable[[float, int], float] = lambda seconds, members: 0.0) -> Timing | None:
        """Returns the fastest timing, or an earlier timing that is nearly as fast (see GAIN); None: no timing.

        saved: seconds that compiling saves of a fused member step, by its length and the members of its pack.
        """
        best, fastest = None, math.inf
        for timing in self.timings:
            seconds = timing.seconds - (saved(timing.seconds, timing.members) if timing.mode == "fused" else 0.0)
            if seconds < GAIN * fastest:
                best, fastest = timing, seconds
        return best


def fused_members(trial_count: int, device: str) -> tuple[int, ...]:
    """Returns the numbers of members of the fused packs that are measured; a pack has at most one member a trial."""
    return tuple(dict.fromkeys(min(members, trial_count) for members in FUSED_MEMBERS[device]))


def calibrated(trials: Sequence[TrialConfig], device: str) -> Calibration:
    """Returns the measurements of a program: those that this machine keeps, else new ones, which it keeps.

    Those of a busy machine are not kept, nor those of a program that cannot be fused: their message names a line of the
    user's code as it is now.
    trials: of one program, at least one.
    """
    if (kept := find(trials, device)) is not None:
        return kept
    from memsweep.run.policy.calibration import calibrate  # imports torch

    name = _name_of(trials, device)
    calibration = calibrate(trials[:MOST_TRIALS], device)
    if name is not None and calibration.is_whole and name == _name_of(trials, device):  # no code was edited meanwhile
        timings = [list(timing) for timing in calibration.timings]
        content = json.dumps({"measured_at": calibration.measured_at, "timings": timings})
        with suppress(OSError, StoreError):  # the next folder measures too
            _folder().mkdir(parents=True, exist_ok=True)
            write_whole(_path(name), content.encode())
    return calibration


def find(trials: Sequence[TrialConfig], device: str) -> Calibration | None:
    """Returns the measurements of a program that this machine keeps, without importing torch.

    None where it keeps none of the same program, or the file is too old or damaged.  trials: as in `calibrated`.
    """
    if (name := _name_of(trials, device)) is None:
        return None
    try:
        content = json.loads(_path(name).read_text("utf-8"))
        measured_at, timings = content["measured_at"], tuple(Timing(*values) for values in content["timings"])
        is_fresh = 0 <= time.time() - measured_at < KEPT_SECONDS
    except (OSError, ValueError, TypeError, LookupError, ArithmeticError, RecursionError):
        return None
    is_valid = is_fresh and timings and all(map(_is_valid, timings))
    return Calibration(timings, measured_at=measured_at, is_whole=True, is_kept=True) if is_valid else None


def _is_valid(timing: Timing) -> bool:
    counts = (timing.members, timing.bytes_a_member)
    are_counts = all(isinstance(count, int) for count in counts) and min(counts) >= 0 and timing.members > 0
    is_time = isinstance(timing.seconds, float) and 0 < timing.seconds < math.inf
    return timing.mode in ("serial", "fused") and are_counts and is_time


def _folder() -> Path:
    return compiled_code.folder() / "calibrations"


def _path(name: str) -> Path:
    return _folder() / f"{name}.json"


def _name_of(trials: Sequence[TrialConfig], device: str) -> str | None:
    """Returns a hash of all that the measurements of a program depend on.

    None where a part of that is unknown; on a GPU, whose free memory is measured too; and where VARIABLE is 0.
    """
    trials = trials[:MOST_TRIALS]
    if device != "cpu" or os.environ.get(VARIABLE) == "0":
        return None
    most = max(fused_members(len(trials), device))
    parts = [_source(), _machine(), _users_code(trials), _measured(trials[:most])]
    if None in parts:
        return None
    content = repr([FORMAT, *parts, variant(trials, device)])
    return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()


@cache
def _source() -> str | None:
    return compiled_code.source(ROOMS)


def _machine() -> list[Any] | None:
    """Returns the machine, its build of torch and what this process may use; None where its processor is unknown."""
    if not (processor := compiled_code.processor(PROCESSOR)):
        return None
    system = (platform.node(), platform.machine(), platform.python_version(), version("torch"))
    counts = (processors.installed(), processors.allotted())
    settings = sorted((name, value) for name, value in os.environ.items() if name.startswith(SETTINGS))
    return [system, processor, counts, settings]


def _users_code(trials: Sequence[TrialConfig]) -> list[Any] | None:
    """Returns the user's code that these trials run, and its packages.

    None where it is unknown, or edited since this process began, which may have imported it before.
    """
    imports = sorted({path for trial in trials for path in trial.imports})
    if not imports:
        return []
    try:
        code = code_of(imports)
        changed_at = max((os.stat(file).st_mtime for file in code.files), default=0.0)
    except (ConfigError, OSError):
        return None
    if not (code.fingerprint or code.packages) or changed_at > psutil.Process().create_time():
        return None
    return [imports, code.fingerprint, sorted(code.packages.items())]


def _measured(trials: Sequence[TrialConfig]) -> list[Any] | None:
    """Returns the settings of the members that are measured, and for each member the numbers of its setting and seeds.

    Seeds are numbered as they occur: they only decide which members share inputs. None where a file can't be read.
    """
    places: dict[str, dict[Any, int]] = {}
    members = []
    for trial in trials:
        if has_content(trial.data.task) and not trial.flat()["data.content"]:
            return None
        parts = {"setting": _setting(trial), "data": trial.data}
        parts |= {stream: trial.stream_seed(stream) for stream in STREAMS}
        numbers = [places.setdefault(name, {}).setdefault(part, len(places[name])) for name, part in parts.items()]
        members.append(numbers)
    return [list(places["setting"]), members]


def _setting(trial: TrialConfig) -> tuple[Any, ...]:
    """Returns the fields of a trial but its seeds; of a decimal number, whether it is 0 and whether it is the default.

    Other values of a rate or a strength take the same time.
    """
    fields = {name: value for name, value in trial.flat().items() if not name.startswith("seed")}
    return tuple(
        (name, (not value, value == _DEFAULTS.get(name)) if isinstance(value, float) else repr(value))
        for name, value in sorted(fields.items())
    )


_DEFAULTS = DEFAULTS.flat()
