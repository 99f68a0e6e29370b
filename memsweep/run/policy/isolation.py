"""Evaluates a user's code in a separate process, so that a crash or a hang loses only the result."""

from __future__ import annotations

import atexit
import json
import os
import select
import subprocess
import sys
from typing import Any

from memsweep.data import given
from memsweep.results.storage.location import location
from memsweep.spec.config import TrialConfig, imported

STARTING_SECONDS, SECONDS = 120.0, 30.0
"""Time limits for importing torch in the process, and for one result."""

_process: subprocess.Popen[str] | None = None


def evaluate(function: str, trial: TrialConfig) -> Any:
    """Returns the JSON result of `module:function` for a trial; None where it raises, crashes or hangs."""
    global _process
    if _process is None:
        path = os.pathsep.join(part or os.getcwd() for part in sys.path)
        _process = subprocess.Popen(
            [sys.executable, "-m", "memsweep.run.policy.isolation"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )
        _answer(_process, STARTING_SECONDS)
    fields = {**trial.flat(), "seed": trial.seed}
    try:
        assert _process.stdin is not None
        print(json.dumps([function, fields, given.folder() and str(given.folder())]), file=_process.stdin, flush=True)
        return json.loads(_answer(_process, SECONDS))
    except (OSError, ValueError):  # the process ended or exceeded the time limit
        end()
        return None


def end() -> None:
    """Ends the process, if it runs; the next request starts another."""
    global _process
    if _process is not None:
        _process.kill()
        _process.communicate()
        _process = None


atexit.register(end)


def _answer(process: subprocess.Popen[str], seconds: float) -> str:
    """Returns the next line of the process's output; empty where the process ended or exceeded the time limit."""
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], seconds)
    return process.stdout.readline() if ready else ""


def _serve() -> None:
    """Answers requests until stdin closes."""
    import torch

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # output of the user's code goes to stderr
    torch.set_num_threads(1)
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        function, fields, results = json.loads(line)
        try:
            given.read_from(location(results) if results else None)
            answer = imported(function)(TrialConfig.of(fields))
        except Exception:
            answer = None
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    _serve()
