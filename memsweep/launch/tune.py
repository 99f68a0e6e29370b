"""Packs on Ray Tune: one Tune trial is one pack, on long-lived workers. The only file that knows Ray.

Tune places, repeats and stops packs; results go from the workers to the tables, never through Tune.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

# Tune's own log files, state files and console output are off: the tables and our progress take their place
os.environ |= {"TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "TUNE_GLOBAL_CHECKPOINT_S": "3600", "RAY_AIR_NEW_OUTPUT": "0"}
os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray
from ray import tune
from ray.tune.search import Searcher

from memsweep.config import TrialConfig
from memsweep.launch.packing import Pack, Tally
from memsweep.launch.watchdog import no_orphans
from memsweep.results.store import Store

if TYPE_CHECKING:
    from memsweep.launch.calibration import Calibration

REPORT_SECONDS = 1.0
"""A worker reports its progress about this often."""
CALIBRATION_SECONDS, CALIBRATION_TRIALS = 120.0, 4096
"""How long all programs may be measured, and the most trials of a program that a worker is sent for it."""
TRIES = 3
"""A pack whose worker dies is tried this often before its trials are quarantined."""


@dataclass(frozen=True)
class Outcome:
    """How a launch ended."""

    tally: Tally
    interrupted: bool
    quarantined: tuple[Pack, ...]  # packs that kept ending their worker


class PackTrainable(tune.Trainable):  # type: ignore[misc]  # Ray is not type-checked
    """A worker: trains one pack after another in the same process."""

    _execution: Generator[Any, None, None]  # of the pack at hand, told its progress

    def setup(self, config: dict[str, Any]) -> None:
        import torch  # here, because the driver needs neither torch nor the time to import it

        torch.set_num_threads(1)
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Trains for about REPORT_SECONDS."""
        until = time.monotonic() + REPORT_SECONDS
        for progress in self._execution:
            self._tally = Tally(progress.settled, progress.failed)
            if time.monotonic() > until:
                return {**self._tally._asdict(), "done": False}
        return {**self._tally._asdict(), "done": True}

    def cleanup(self) -> None:
        self._execution.close()

    def _begin(self, config: dict[str, Any]) -> None:
        from memsweep.launch.execution import run_pack  # imports torch, see above

        self._tally = Tally()
        store = Store(config["results"])
        self._execution = run_pack(Pack.from_json(config["pack"]), store, config["device"])


class PackQueue(Searcher):  # type: ignore[misc]
    """Hands packs to Tune, one a Tune trial, and hands a pack again whose worker died.

    remaining: the trials of a pack that are not settled yet, asked when a worker died.
    watch: told the tally at each report.  note: told the trials at work, whenever they change.
    """

    def __init__(
        self,
        packs: list[Pack],
        settings: dict[str, Any],
        remaining: Callable[[Pack], Pack | None],
        watch: Callable[[Tally], None],
        note: Callable[[list[str]], None],
    ):
        super().__init__(metric="settled", mode="max")
        self.settings = settings
        self.remaining = remaining
        self.watch = watch
        self.note = note
        self.waiting = [(pack, 1) for pack in packs]
        self.running: dict[str, tuple[Pack, int]] = {}
        self.quarantined: list[Pack] = []
        self._tallies: dict[str, Tally] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Tune copies what it is given into files that nobody reads here; they need no callables."""
        return {"metric": self._metric, "mode": self._mode}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if self.waiting:
            pack, tries = self.running[trial_id] = self.waiting.pop(0)
            self.note([trial.trial_id for running, _ in self.running.values() for trial in running.trials])
            return {"pack_id": pack.pack_id, "try": tries, "pack": pack.to_json(), **self.settings}
        return None if self.running else str(Searcher.FINISHED)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        self._tallies[trial_id] = Tally(result["settled"], result["failed"])
        self.watch(self.tally)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        pack, tries = self.running.pop(trial_id)
        if result and "settled" in result:
            self.on_trial_result(trial_id, result)
        if not error or (rest := self.remaining(pack)) is None:
            return
        if tries < TRIES:
            self.waiting.append((rest, tries + 1))
        else:
            self.quarantined.append(rest)

    @property
    def tally(self) -> Tally:
        return (
            Tally(*(sum(column) for column in zip(*self._tallies.values(), strict=True))) if self._tallies else Tally()
        )

    def save(self, checkpoint_path: str) -> None:
        """Nothing: what is left to do is read from the tables."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, as above."""


@contextmanager
def cluster(address: str | None = None) -> Iterator[None]:
    """A Ray cluster for the time of a launch: of its own on this machine, or the running one at `address`."""
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    with no_orphans() if address is None else nullcontext():
        if address is None:
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # this cluster's own, stored nowhere
            # "local" on purpose: a bare ray.init() might join a stranger's cluster
            ray.init(address="local", num_cpus=os.cpu_count(), include_dashboard=False, **quiet)
        else:
            ray.init(address=address, **quiet)
        try:
            yield
        finally:
            ray.shutdown()


def worker_count(device: str) -> int:
    """Packs that run at the same time: one a GPU, or one a CPU core."""
    return max(1, int(ray.cluster_resources().get("GPU" if device == "cuda" else "CPU", 1)))


def has_gpu() -> bool:
    return bool(ray.cluster_resources().get("GPU", 0))


def calibrate(programs: Sequence[Sequence[TrialConfig]], device: str) -> list[Calibration | None]:
    """Measures programs on workers, within `cluster()`; None of those that end their worker or take too long."""

    def measure(text: str) -> Calibration:
        from memsweep.launch.calibration import calibrate as calibrate_here  # imports torch

        return calibrate_here(Pack.from_json(text).trials, device)

    remote = ray.remote(measure).options(max_retries=0, **_resources(device))
    asked = [remote.remote(Pack(tuple(trials[:CALIBRATION_TRIALS]), 1).to_json()) for trials in programs]
    ended, late = ray.wait(asked, num_returns=len(asked), timeout=CALIBRATION_SECONDS)
    for reference in late:
        ray.cancel(reference, force=True)
    return [_result(reference) if reference in ended else None for reference in asked]


def _result(reference: Any) -> Calibration | None:
    try:
        found: Calibration = ray.get(reference)
        return found
    except ray.exceptions.RayError:  # the pack will tell what is wrong
        return None


def _resources(device: str) -> dict[str, int]:
    return {"num_cpus": 1, "num_gpus": 1} if device == "cuda" else {"num_cpus": 1}


def run(
    packs: list[Pack],
    store: Store,
    device: str,
    budget_seconds: float | None,
    remaining: Callable[[Pack], Pack | None],
    watch: Callable[[Tally], None],
) -> Outcome:
    """Runs these packs to their end, within `cluster()`. Ctrl-C or a spent budget ends it early and keeps the rest."""

    settings = {"results": str(store.results.resolve()), "device": device}
    queue = PackQueue(packs, settings, remaining, watch, store.note_running)
    scratch = tempfile.mkdtemp(prefix="memsweep-tune-")
    try:
        tune.Tuner(
            tune.with_resources(PackTrainable, {"cpu": 1, "gpu": 1} if device == "cuda" else {"cpu": 1}),
            tune_config=tune.TuneConfig(
                search_alg=queue,
                num_samples=-1,
                reuse_actors=True,
                max_concurrent_trials=worker_count(device),
                time_budget_s=budget_seconds,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=tune.RunConfig(
                storage_path=scratch,
                name="packs",
                verbose=0,
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        ).fit()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return Outcome(queue.tally, bool(queue.waiting or queue.running), tuple(queue.quarantined))
