"""Packs on Ray Tune: one Tune trial is one pack, on long-lived workers.

Tune places, restarts and stops packs; workers write results to the tables directly, not through Tune.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from memsweep.run import cluster  # noqa: F401  first, because it sets variables that Ray reads on import

# isort: split
import ray
from ray import tune
from ray.tune.search import Searcher
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from memsweep.results.storage.location import Location
from memsweep.results.storage.store import Store, StoreError
from memsweep.run.packing import Pack, Tally
from memsweep.run.recovery import hang_guard
from memsweep.run.recovery.hang_guard import HangGuard, LastWords
from memsweep.run.recovery.retries import DEATHS, Turn, after_death, has_gained
from memsweep.spec.config import TrialConfig

if TYPE_CHECKING:
    from memsweep.run.policy.calibration import Calibration

CALIBRATION_SECONDS, CALIBRATION_TRIALS = 60.0, 4096
"""Longest wait for the next measured program, and the most trials of a program sent to a worker."""
ASK_SECONDS = 10.0
"""Time limit for machines to return what a dead worker left behind."""
PREEMPTED = 3
"""`DeathReason` in `ray.nodes()` of a machine that was taken away with notice (AUTOSCALER_DRAIN_PREEMPTED)."""
NOTE_SECONDS = 2.0
"""Minimum time between notes of the running trials, each of which rewrites the whole list."""
REPORT_SECONDS, REPORTS_A_SECOND = 1.0, 50.0
"""Seconds between a worker's reports, longer where all workers together would report more often than this rate."""


@dataclass(frozen=True)
class Outcome:
    """How a launch ended."""

    tally: Tally
    interrupted: bool


class Care(NamedTuple):
    """How workers handle checkpoints and hangs."""

    checkpoint_seconds: float  # between checkpoints
    patience_seconds: float  # for a piece of work, after which the worker counts as hung


class Supervisor(Protocol):
    """The pack queue's callbacks into its launch."""

    def remaining(self, pack: Pack) -> Pack | None:
        """Returns the pack with the trials that have not ended; None: no trial remains."""

    def reached(self, packs: Sequence[Pack]) -> list[int]:
        """Returns for each pack the sum of its trials' steps in checkpoints. Reads all checkpoints."""

    def last_words(self, pack: Pack) -> LastWords:
        """Returns what the dead worker of a pack left behind."""

    def was_preempted(self, node_id: str) -> bool:
        """Returns whether this machine was taken away with notice."""

    def quarantine(self, pack: Pack, deaths: int, words: LastWords) -> None:
        """Gives up a pack after this many deaths without progress."""

    def watch(self, tally: Tally) -> None:
        """Called with the tally at each report."""

    def note_running(self, trial_ids: list[str]) -> None:
        """Called with the running trials when they change."""

    def more(self) -> list[Pack]:
        """Returns the packs of the next round, requested when all earlier packs ended; empty: the launch is done."""


class PackTrainable(tune.Trainable):  # type: ignore[misc]  # Ray is not type-checked
    """A worker: trains one pack after another in the same process."""

    _execution: Generator[Any, None, None]  # of the current pack, yields its progress
    _guard: HangGuard
    _tally: Tally
    _node_id: str  # part of the first report, in case the machine is taken away
    _is_known: bool
    _report_seconds: float

    def setup(self, config: dict[str, Any]) -> None:
        """Prepares the worker for its first pack."""
        import torch  # here, because the driver needs neither torch nor the time to import it

        torch.set_num_threads(1)
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Prepares the worker for its next pack."""
        self._begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Trains until the next report is due; returns it."""
        until = time.monotonic() + self._report_seconds * self._is_known
        self._is_known = True
        while time.monotonic() < until:
            with self._guard.for_a_while():
                progress = next(self._execution, None)
            if progress is None:
                self._guard.close()
                return self._report(done=True)
            self._tally = progress
        return self._report(done=False)

    def cleanup(self) -> None:
        """Stops the pack; its trainings are saved."""
        self._execution.close()
        self._guard.close()

    def _report(self, *, done: bool) -> dict[str, Any]:
        return {**self._tally._asdict(), "node_id": self._node_id, "done": done}

    def _begin(self, config: dict[str, Any]) -> None:
        from memsweep.run.worker.execution import run_pack  # imports torch, see above

        self._tally, self._is_known = Tally(), False
        self._report_seconds = config["report_seconds"]
        self._node_id = ray.get_runtime_context().get_node_id()
        store, pack, care = Store(config["results"]), Pack.from_json(config["pack"]), Care(*config["care"])
        self._guard = HangGuard(store.results, pack.pack_id, care.patience_seconds, compiles=pack.compiled)
        self._execution = run_pack(pack, store, config["device"], checkpoint_seconds=care.checkpoint_seconds)


class PackQueue(Searcher):  # type: ignore[misc]
    """Assigns packs to Tune trials, and requeues what is left of a pack whose worker died."""

    def __init__(self, packs: list[Pack], settings: dict[str, Any], driver: Supervisor):
        super().__init__(metric="settled", mode="max")
        self.settings = settings
        self.driver = driver
        self.waiting: list[Turn] = self._turns(packs)
        self.running: dict[str, Turn] = {}
        self.deaths: Counter[str] = Counter()  # without progress, by planned pack
        self.tally = Tally()
        self._steps = sum(turn.pack.steps for turn in self.waiting)  # of all packs requested
        self._tallies: dict[str, Tally] = {}  # by Tune trial
        self._places: dict[str, str] = {}  # Tune trial -> the machine it runs on
        self.error: StoreError | None = None  # that ends the launch
        self._is_noted, self._note_at = True, 0.0  # whether the running trials are noted; when they may be noted again

    def __getstate__(self) -> dict[str, Any]:
        """Tune saves the searcher to files that are never read; they need no callables."""
        return {"metric": self._metric, "mode": self._mode}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Returns the configuration of the next Tune trial; None: wait; FINISHED: no packs are left."""
        if not self.waiting and not self.running and not self.error:
            with self._kept_error():
                self.waiting = self._turns(self.driver.more())
                self._steps += sum(turn.pack.steps for turn in self.waiting)
        if self.waiting and not self.error:
            turn = self.waiting.pop(0)
            pack = turn.pack
            self.running[trial_id] = turn
            self._note_running(changed=True)
            return {"pack_id": pack.pack_id, "deaths": turn.deaths, "pack": pack.to_json(), **self.settings}
        return None if self.running else str(Searcher.FINISHED)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Updates the launch's tally with a worker's report."""
        tally = Tally(*(result.get(name, 0) for name in Tally._fields))
        before, self._tallies[trial_id] = self._tallies.get(trial_id, Tally()), tally
        if tally.trained and trial_id in self.running:  # else it has not read checkpoints yet
            self.running[trial_id] = replace(self.running[trial_id], left=tally.left)
        settled, failed, trained = (
            all_ + now - then for all_, now, then in zip(self.tally[:3], tally[:3], before[:3], strict=True)
        )
        left = sum(turn.left for turn in (*self.waiting, *self.running.values()))
        self.tally = Tally(settled, failed, trained, left, self._steps)
        self._places[trial_id] = result["node_id"]
        self.driver.watch(self.tally)
        self._note_running()

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Removes an ended pack; requeues or quarantines what its dead worker left."""
        turn = self.running.pop(trial_id)
        if result and "settled" in result:
            self.on_trial_result(trial_id, result)
        if error:
            with self._kept_error():
                self._bury(turn, self._places.get(trial_id))

    @contextmanager
    def _kept_error(self) -> Iterator[None]:
        """Keeps an error of the results folder, to end the launch after the running packs; Tune would hide it."""
        try:
            yield
        except StoreError as error:
            self.error = error

    def _bury(self, turn: Turn, node_id: str | None) -> None:
        words = self.driver.last_words(turn.pack)
        rest = self.driver.remaining(turn.pack)
        if rest is None:
            return
        if node_id and self.driver.was_preempted(node_id):  # not caused by the pack
            self.waiting += self._reached([replace(turn, pack=rest)])
            return
        (reached,) = self.driver.reached([rest])
        gained = has_gained(turn, rest, reached)
        self.deaths[turn.origin] += not gained
        deaths = self.deaths[turn.origin]
        again = after_death(turn, rest, gained=gained, hung=words.hung, is_spent=deaths >= DEATHS)
        self.waiting += self._reached(again)
        if not again:
            self.driver.quarantine(rest, deaths, words)

    def _turns(self, packs: Sequence[Pack]) -> list[Turn]:
        return self._reached([Turn(pack, pack.pack_id) for pack in packs])

    def _reached(self, turns: Sequence[Turn]) -> list[Turn]:
        """The turns with the steps that checkpoints hold; only their own workers will change these."""
        steps = self.driver.reached([turn.pack for turn in turns]) if turns else []
        rows = zip(turns, steps, strict=True)
        return [replace(turn, reached=reached, left=turn.pack.steps - reached) for turn, reached in rows]

    def _note_running(self, *, changed: bool = False) -> None:
        """Notes the running trials if they have changed, at most once in NOTE_SECONDS."""
        self._is_noted &= not changed
        if not self._is_noted and time.monotonic() > self._note_at:
            self.driver.note_running([trial.trial_id for turn in self.running.values() for trial in turn.pack.trials])
            self._is_noted, self._note_at = True, time.monotonic() + NOTE_SECONDS

    def save(self, checkpoint_path: str) -> None:
        """Does nothing: the remaining work is read from the tables."""

    def restore(self, checkpoint_path: str) -> None:
        """Does nothing, as `save`."""


def last_words(results: Location, pack: Pack) -> LastWords:
    """Returns what a pack's dead worker left, in the results folder or on any machine; within `cluster()`."""
    if isinstance(results, Path):
        return hang_guard.last_words(results, pack.pack_id)
    look = ray.remote(hang_guard.last_words)
    strategies = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in ray.nodes() if node["Alive"]]
    options = [{"num_cpus": 0, "max_retries": 0, "scheduling_strategy": strategy} for strategy in strategies]
    tasks = [look.options(**option).remote(results, pack.pack_id) for option in options]
    answers = [_result(reference) for reference in ray.wait(tasks, num_returns=len(tasks), timeout=ASK_SECONDS)[0]]
    return max((words for words in answers if words), key=lambda words: len(words.text), default=LastWords(False, ""))


def was_preempted(node_id: str) -> bool:
    """Returns whether a machine was taken away with notice; within `cluster()`."""
    return any(node["NodeID"] == node_id and node.get("DeathReason") == PREEMPTED for node in ray.nodes())


def calibrate(
    programs: Sequence[Sequence[TrialConfig]], device: str, care: Care, beside: bool = False
) -> list[Calibration | None]:
    """Measures programs on workers, within `cluster()`; returns None for programs that kill or hang their worker.

    beside: whether the workers of packs occupy the devices and are idle; on GPUs nothing is measured then.
    """
    if beside and device == "cuda":
        return [None] * len(programs)

    def measure(text: str) -> Calibration:
        from memsweep.run.policy.calibration import calibrate as calibrate_here  # imports torch

        return calibrate_here(Pack.from_json(text).trials, device)

    remote = ray.remote(measure).options(max_retries=0, **({"num_cpus": 0} if beside else _resources(device)))
    tasks = [remote.remote(Pack(tuple(trials[:CALIBRATION_TRIALS]), 1).to_json()) for trials in programs]
    ended: list[Any] = []
    late = tasks
    while late:
        done, late = ray.wait(late, num_returns=1, timeout=min(CALIBRATION_SECONDS, care.patience_seconds))
        ended += done
        if not done:  # workers hang
            for reference in late:
                ray.cancel(reference, force=True)
            break
    # the packs of programs without a result will report the error
    return [_result(reference) if reference in ended else None for reference in tasks]


def _result(reference: Any) -> Any:
    """A task's return value; None where its worker died."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayError:
        return None


def _resources(device: str) -> dict[str, int]:
    return {"num_cpus": 1, "num_gpus": 1} if device == "cuda" else {"num_cpus": 1}


def run(
    packs: list[Pack],
    store: Store,
    device: str,
    workers: int,
    budget_seconds: float | None,
    care: Care,
    driver: Supervisor,
) -> Outcome:
    """Runs these packs to their end, within `cluster()`; returns the outcome. Ctrl-C or a spent budget stops early."""
    # all workers start at once: when a pack ends, its worker goes to a pack that is waiting for a new worker, and that
    # start is cancelled; with fewer pending starts than ends, the cluster would never fill up
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(workers)
    settings = {
        "results": str(store.results.resolve()),
        "device": device,
        "care": list(care),
        "report_seconds": max(REPORT_SECONDS, workers / REPORTS_A_SECOND),
    }
    queue = PackQueue(packs, settings, driver)
    scratch = tempfile.mkdtemp(prefix="memsweep-tune-")
    try:
        tune.Tuner(
            tune.with_resources(PackTrainable, {"cpu": 1, "gpu": 1} if device == "cuda" else {"cpu": 1}),
            tune_config=tune.TuneConfig(
                search_alg=queue,
                num_samples=-1,
                reuse_actors=True,
                max_concurrent_trials=workers,
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
    if queue.error:
        raise queue.error
    return Outcome(queue.tally, bool(queue.waiting or queue.running))
