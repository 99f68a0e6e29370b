"""The options of a launch, shared by Python, `memsweep launch` and `memsweep submit`."""

from __future__ import annotations

from dataclasses import dataclass

from memsweep.run.checkpoints import CHECKPOINT_SECONDS
from memsweep.run.recovery.hang_guard import PATIENCE_SECONDS
from memsweep.spec.budget import UNLIMITED, Budget
from memsweep.spec.config import ConfigError

DEVICES = ("cpu", "cuda")


@dataclass(frozen=True)
class LaunchOptions:
    """Where a launch runs, which trials it runs, and its budget.  Raises ConfigError for an unknown device."""

    address: str | None = None  # of a running Ray cluster; default: a cluster on this machine, for this launch
    workers: int | None = None  # packs at a time, also while a cluster is still growing; default: as many as fit now
    members: int | None = None  # trials trained at a time in a pack, at most
    limit: int | None = None  # trials of each sweep that are run; all stay wanted
    device: str | None = None  # cpu or cuda; default: a GPU where there is one
    compiling: bool | None = None  # default: as chosen at the programs' first launch, where it saves time
    retry: bool = False  # failed trials run again
    yes: bool = False  # sweeps of more than 1,000,000 trials are launched too
    add: bool = False  # trials wanted by earlier launches of the sweeps stay wanted
    budget: Budget = UNLIMITED  # the launch ends when it is spent; the next launch continues
    patience_seconds: float = PATIENCE_SECONDS  # a pack without progress for this long counts as hung
    checkpoint_seconds: float = CHECKPOINT_SECONDS  # between two checkpoints of a pack
    tracking_uri: str | None = None  # of MLflow; default: MLFLOW_TRACKING_URI, else a database in the folder; "none"

    def __post_init__(self) -> None:
        if self.device is not None and self.device not in DEVICES:
            raise ConfigError([f"device = {self.device!r}: must be cpu or cuda."])
