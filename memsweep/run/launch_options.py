"""The options of a launch, shared by Python, `memsweep launch` and `memsweep submit`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from memsweep.run.checkpoints import CHECKPOINT_SECONDS
from memsweep.run.recovery.hang_guard import PATIENCE_SECONDS
from memsweep.run.rounds.launch_code import CHANGED
from memsweep.spec.budget import UNLIMITED, Budget
from memsweep.spec.config import ConfigError
from memsweep.spec.options import NOTHING
from memsweep.spec.part import Part
from memsweep.spec.sweep import Sweep, keep_problems

DEVICES = ("cpu", "cuda")
MOST_PER_GPU = 16
"""Most workers that share a GPU."""


@dataclass(frozen=True)
class LaunchOptions:
    """The options of a launch: its place, trials, limits and budget.  Raises ConfigError for a wrong value."""

    address: str | None = None  # of a running Ray cluster; None: a cluster on this machine that ends with the launch
    workers: int | None = None  # packs at a time; None: as many as the cluster has room for when the launch begins
    members: int | None = None  # trials trained at a time in a pack, at most
    limit: int | None = None  # most trials of each sweep that run; all stay wanted
    device: str | None = None  # cpu or cuda; None: cuda if the cluster has a GPU
    compiling: bool | None = None  # None: as chosen at each program's first launch
    retry: bool = False  # failed trials run again
    yes: bool = False  # sweeps of more than 1,000,000 trials are launched too
    changed: str | None = None  # rerun or keep: what happens to trials that ran other code of the user's; None: refused
    keep: str = NOTHING  # weights or state: what is kept of these sweeps' trials, also where the sweeps do not want it
    keep_steps: tuple[int, ...] = ()  # at which they are kept, beside the end
    add: bool = False  # trials of earlier launches of the sweeps stay wanted
    budget: Budget = UNLIMITED  # ends the launch; the next launch continues
    patience_seconds: float = PATIENCE_SECONDS  # without progress, after which a worker is ended
    checkpoint_seconds: float = CHECKPOINT_SECONDS  # between two checkpoints of a pack
    tracking_uri: str | None = None  # None: MLFLOW_TRACKING_URI, else a database in the folder; "none": no MLflow
    part: Part | None = None  # of the trials that run; all stay wanted
    workers_per_gpu: int = 1  # that share a GPU and its memory, on cuda

    def __post_init__(self) -> None:
        if self.device is not None and self.device not in DEVICES:
            raise ConfigError([f"device = {self.device!r}: must be cpu or cuda."])
        if type(self.workers_per_gpu) is not int or not 1 <= self.workers_per_gpu <= MOST_PER_GPU:
            rule = f"must be a whole number from 1 to {MOST_PER_GPU}."
            raise ConfigError([f"workers_per_gpu = {self.workers_per_gpu!r}: {rule}"])
        if self.workers_per_gpu > 1 and self.device != "cuda":
            raise ConfigError([f"workers_per_gpu = {self.workers_per_gpu}: needs GPUs; add device = 'cuda'."])
        if self.changed not in (None, *CHANGED):
            raise ConfigError([f"changed = {self.changed!r}: must be rerun or keep."])
        if problems := keep_problems(self.keep, self.keep_steps, {}):
            raise ConfigError(problems)

    def keeping(self, sweeps: Iterable[Sweep]) -> list[Sweep]:
        """Returns these sweeps, which keep what the launch keeps too.  Raises SweepError."""
        return [sweep.keeping(self.keep, self.keep_steps) for sweep in sweeps]

    def words(self) -> list[str]:
        """Returns the words of the command `memsweep launch` that give these options; absent options are left out."""
        limits = zip(self.budget, ("s", "trials", "steps"), strict=True)
        values = {
            "--address": self.address,
            "--workers": self.workers,
            "--workers-per-gpu": self.workers_per_gpu if self.workers_per_gpu > 1 else None,
            "--members": self.members,
            "--part": self.part,
            "--limit": self.limit,
            "--device": self.device,
            "--changed": self.changed,
            "--keep": self.keep if self.keep != NOTHING else None,
            "--keep-steps": ",".join(map(str, self.keep_steps)) or None,
            "--compile": {None: None, True: "always", False: "never"}[self.compiling],
            "--budget": next((_text(limit, unit) for limit, unit in limits if limit is not None), None),
            "--patience": _text(self.patience_seconds, "s"),
            "--checkpoint": _text(self.checkpoint_seconds, "s"),
            "--tracking-uri": self.tracking_uri,
        }
        words = [word for name, value in values.items() if value is not None for word in (name, str(value))]
        return words + [f"--{name}" for name in ("retry", "yes", "add") if getattr(self, name)]


def _text(value: float, unit: str) -> str:
    """Returns a limit as `--budget` and `--patience` take it: 600.0s, 500trials, 1e16steps."""
    return f"{value!r}{unit}".replace("+", "")
