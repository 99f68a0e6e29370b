"""How a trial ended: statuses, and the sentences that explain a failed trial."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from memsweep.spec.config import TrialConfig


class Status(StrEnum):
    """How a trial ended."""

    FINISHED = "finished"
    PRUNED = "pruned"
    DIVERGED = "diverged"
    OUT_OF_MEMORY = "out_of_memory"
    FAILED = "failed"
    QUARANTINED = "quarantined"
    INTERRUPTED = "interrupted"

    @property
    def advice(self) -> str:
        """Returns a sentence: what ended the trial, and what to do."""
        return _ADVICE[self]


_ADVICE = {
    Status.FINISHED: "Used its budget, or met its stopping rule.",
    Status.PRUNED: "Ended early by the search.",
    Status.DIVERGED: "Its loss became infinite or undefined; lower optimizer.learning_rate.",
    Status.OUT_OF_MEMORY: "The device ran out of memory; launch again with fewer --members and --retry.",
    Status.FAILED: "An error ended it; fix the cause, then launch again with --retry.",
    Status.QUARANTINED: "It ended its worker repeatedly; memsweep verify shows how; fix it, then launch with --retry.",
    Status.INTERRUPTED: "The launch was stopped first; launch again to finish it.",
}

_REPRODUCTION = "To see it alone: memsweep verify "


def reproduction(trial: TrialConfig, results: Any) -> str:
    """Returns the last line of a failed trial's cause: the command that runs the trial alone."""
    return f"{_REPRODUCTION}{trial.trial_id} --results {results}" + " --own-code" * bool(trial.imports)


def error_line(cause: str | None) -> str:
    """Returns the line of a cause that names the error: the last line of its traceback."""
    lines = [line for line in (cause or "").splitlines() if line.strip() and not line.startswith(_REPRODUCTION)]
    return lines[-1] if lines else "no cause"
