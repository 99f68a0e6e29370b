"""Checks whether this machine is ready: packages, compiler, devices, datasets, results, ports. Leaves all as it was."""

from __future__ import annotations

import platform
import shutil
import socket
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from memsweep.check.packages import requirements
from memsweep.data import tasks
from memsweep.spec import processors
from memsweep.spec.config import TrialConfig
from memsweep.spec.options import SYNTHETIC_TASKS, TARGET_TASKS, TASKS

FREE_GIB = 1
"""With less free disk, in GiB, the check fails."""


def checks(results: str) -> list[dict[str, Any]]:
    """Returns one row per check: its name, state, and a text with advice.

    States: ok; absent: optional and not installed; harmless: nothing is lost; wrong: needs a fix.
    """
    rows = [*_python(), *_packages(), *_compiler(), *_devices(), *_data(), *_results(results), *_ports()]
    return [dict(zip(("check", "state", "found"), row, strict=True)) for row in rows]


def _python() -> Iterator[tuple[str, str, str]]:
    yield (
        "python",
        "ok" if sys.version_info >= (3, 11) else "wrong",
        f"{platform.python_version()}, needs 3.11 or newer",
    )
    yield "cores", "ok", _of(str(processors.allotted()), str(processors.installed()))
    memory, installed = (f"{size / 2**30:.1f} GiB" for size in (processors.memory(), processors.installed_memory()))
    yield "memory", "ok", _of(memory, installed)


def _of(allotted: str, installed: str) -> str:
    return installed if allotted == installed else f"{allotted} allotted, of {installed}"


def _packages() -> Iterator[tuple[str, str, str]]:
    for name, requirement in requirements().items():
        try:
            yield name, "ok", f"{version(name)}, needs {requirement}"
        except PackageNotFoundError:
            yield name, "wrong", f"not installed: pip install -c constraints.txt '{requirement}'"


def _compiler() -> Iterator[tuple[str, str, str]]:
    path = next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)
    yield "C++ compiler", "ok" if path else "absent", path or "none; programs run uncompiled"


def _devices() -> Iterator[tuple[str, str, str]]:
    try:
        import torch  # slow to import
    except ImportError:  # reported by _packages
        yield "GPU", "absent", "torch is not installed; results can be read without it"
        return
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    text = ", ".join(names) or "none that torch can use; packs run on the CPU"
    if processors.gpus() is not None:  # else all are allotted
        text += f" ({processors.GPUS}: {processors.gpus()} allotted, of {processors.installed_gpus()})"
    yield "GPU", "ok" if names else "absent", text


def _data() -> Iterator[tuple[str, str, str]]:
    drawn = {"data.input_dim": 8, "data.label_scheme": "random", "data.classes": 2}
    sequence = {"model.family": "recurrent", "model.cell": "lstm", "data.sequence_length": 64}
    for task in TASKS:
        fields: dict[str, Any] = {"data.task": task}
        if task in SYNTHETIC_TASKS:
            fields |= drawn
        if task in TARGET_TASKS or task == "random_sequences":
            fields |= sequence
        if task == "reconstruction":
            fields["data.input_dim"] = 8
        if task == "alternating":
            fields["data.validation_examples"] = 0
        try:
            problems = tasks.check(TrialConfig.of(fields))
        except ModuleNotFoundError as error:  # reported by _packages
            problems = [f"{error.name} is not installed; results can be read without it"]
        yield f"data {task}", "absent" if problems else "ok", "; ".join(problems) or "available"


def _results(results: str) -> Iterator[tuple[str, str, str]]:
    from memsweep.check import folder
    from memsweep.check.inspection import inspect
    from memsweep.results.status import tracking
    from memsweep.results.storage.location import local_folder
    from memsweep.results.storage.store import store_if_there  # imports pyarrow

    store = store_if_there(results)
    if store is None:
        yield "results", "absent", f"{results}: the first launch creates it"
        return
    findings = list(inspect(store))
    for finding in findings:
        yield finding.kind, "wrong" if finding.is_wrong else "harmless", finding.message
    if not any(finding.is_wrong for finding in findings):
        yield "results", "ok", f"{results}: all parts are complete"
    yield "launch", "ok", "running" if store.is_locked() else "none running"
    if sentence := tracking(store):
        yield "MLflow", "harmless" if store.tracking().get("error") else "ok", sentence
    if isinstance(store.results, Path):
        yield from folder.checks(store.results)
    free = shutil.disk_usage(local_folder(store.results)).free / 2**30
    yield "disk", "ok" if free > FREE_GIB else "wrong", f"{free:.1f} GiB free"


def _ports() -> Iterator[tuple[str, str, str]]:
    try:
        with socket.create_server(("127.0.0.1", 0)):
            yield "loopback", "ok", "a port can be opened"
    except OSError as error:
        yield "loopback", "wrong", f"no port can be opened ({error}); Ray needs one"
