"""Runs packs on Ray Tune: one Tune trial is one pack, on long-lived workers.

Tune places, restarts and stops packs; workers write results to the tables directly, not through Tune.
"""

from __future__ import annotations

import os
import platform
import shutil
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

from memsweep.run import cluster  # first, because it sets variables that Ray reads on import

# isort: split
import ray
from ray import tune
from ray.tune.search import Searcher

from memsweep.results.storage.store import Store, StoreError
from memsweep.run import ray_start
from memsweep.run.packing import PHASES, STARTING, Pack, Tally
from memsweep.run.progress_note import PackAtWork, ProgressNote
from memsweep.run.recovery import interruption
from memsweep.run.recovery.hang_guard import HangGuard
from memsweep.run.recovery.retries import DEATHS, Turn, after_death, made_progress
from memsweep.run.supervisor import PackSupervisor
from memsweep.run.worker import allocator

NOTE_SECONDS = 2.0
"""Shortest time between two notes of the running packs."""
REPORT_SECONDS, REPORTS_A_SECOND = 1.0, 50.0
"""Seconds between two reports of a worker, and the highest rate of reports of all workers together."""


class _NoReporter(tune.ProgressReporter):  # type: ignore[misc]
    """Reports nothing: in a notebook, Tune's own reporter clears the cell's output even if verbose is 0."""

    def should_report(self, trials: list[Any], done: bool = False) -> bool:
        return False


@dataclass(frozen=True)
class Outcome:
    """The end of a launch."""

    tally: Tally
    interrupted: bool  # before all packs have ended


class WorkerLimits(NamedTuple):
    """Seconds after which a worker writes a checkpoint, or is ended."""

    checkpoint_seconds: float  # between two checkpoints
    patience_seconds: float  # without progress, after which the worker is ended


class PackTrainable(tune.Trainable):  # type: ignore[misc]  # Ray is not type-checked
    """A worker, which trains one pack after another in the same process."""

    _execution: Generator[Any, None, None]  # of the current pack, yields its progress
    _guard: HangGuard
    _tally: Tally
    _node_id: str  # part of the first report, in case the machine is lost
    _has_reported: bool  # the current pack has returned its first report
    _report_seconds: float

    def setup(self, config: dict[str, Any]) -> None:
        """Prepares the worker for its first pack."""
        import torch  # slow to import, and needed on workers only

        torch.set_num_threads(1)
        allocator.keep_freed()
        interruption.survive()  # the driver stops workers, which then store and save
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Prepares the worker for its next pack."""
        allocator.return_freed()
        self._begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Trains until the next report is due; returns it."""
        until = time.monotonic() + self._report_seconds * self._has_reported
        self._has_reported = True
        while time.monotonic() < until:
            with self._guard.time_limit():
                progress = next(self._execution, None)
            if progress is None:
                self._guard.close()
                return self._report(done=True)
            is_same, self._tally = progress.phase == self._tally.phase, progress
            if not is_same:  # reported at once, because compiling takes long
                break
        return self._report(done=False)

    def cleanup(self) -> None:
        """Stops the pack, which saves its members in training."""
        self._execution.close()
        self._guard.close()

    def _report(self, *, done: bool) -> dict[str, Any]:
        return {**self._tally._asdict(), "node_id": self._node_id, "host": platform.node(), "done": done}

    def _begin(self, config: dict[str, Any]) -> None:
        from memsweep.run.worker.execution import run_pack  # imports torch, see above

        self._tally, self._has_reported = Tally(phase=STARTING), False
        self._report_seconds = config["report_seconds"]
        self._node_id = ray.get_runtime_context().get_node_id()
        store, pack, limits = Store(config["results"]), Pack.from_json(config["pack"]), WorkerLimits(*config["limits"])
        self._guard = HangGuard(store.results, pack.pack_id, limits.patience_seconds, compiles=pack.compiled)
        self._execution = run_pack(pack, store, config["device"], checkpoint_seconds=limits.checkpoint_seconds)


class PackQueue(Searcher):  # type: ignore[misc]
    """Assigns packs to Tune trials, and requeues what is left of a pack whose worker died."""

    def __init__(self, packs: list[Pack], settings: dict[str, Any], supervisor: PackSupervisor):
        super().__init__(metric="settled", mode="max")
        self.settings = settings
        self.supervisor = supervisor
        self.waiting: list[Turn] = self._turns(packs)
        self.running: dict[str, Turn] = {}
        self.deaths: Counter[str] = Counter()  # id of a planned pack -> deaths of workers without progress
        self.tally = Tally()
        self._steps = sum(turn.pack.steps for turn in self.waiting)  # of all packs planned so far
        self._tallies: dict[str, Tally] = {}  # Tune trial -> its last report
        self._nodes: dict[str, str] = {}  # Tune trial -> id of its machine
        self._hosts: dict[str, str] = {}  # Tune trial -> name of its machine
        self._began: dict[str, datetime] = {}  # Tune trial -> when its pack was handed out
        self._progress = ProgressNote(supervisor.note_progress)
        self.error: StoreError | None = None  # ends the launch
        self._is_noted, self._note_at = (
            True,
            0.0,
        )  # whether the running packs are stored; earliest time of the next note

    def __getstate__(self) -> dict[str, Any]:
        """Returns the state that Tune pickles into files that are never read, without callables."""
        return {"metric": self._metric, "mode": self._mode}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Returns the configuration of the next Tune trial; None: wait; FINISHED: no pack is left."""
        if not self.waiting and not self.running and not self.error:
            with self._error_deferred():
                self.waiting = self._turns(self.supervisor.more())
                self._steps += sum(turn.pack.steps for turn in self.waiting)
        if self.waiting and not self.error:
            turn = self.waiting.pop(0)
            pack = turn.pack
            self.running[trial_id], self._began[trial_id] = turn, datetime.now(UTC)
            self._note_running(changed=True)
            return {"pack_id": pack.pack_id, "deaths": turn.deaths, "pack": pack.to_json(), **self.settings}
        return None if self.running else str(Searcher.FINISHED)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Updates the tally of the launch with a worker's report, and sends it to the supervisor."""
        tally = Tally(**{name: result[name] for name in Tally._fields if name in result})
        before, self._tallies[trial_id] = self._tallies.get(trial_id, Tally()), tally
        if tally.trained and trial_id in self.running:  # else the worker has not read checkpoints yet
            self.running[trial_id] = replace(self.running[trial_id], left=tally.left)
        settled, failed, trained = (
            total + after - earlier for total, after, earlier in zip(self.tally[:3], tally[:3], before[:3], strict=True)
        )
        left = sum(turn.left for turn in (*self.waiting, *self.running.values()))
        self.tally = Tally(settled, failed, trained, left, self._steps, self._phase())
        self._nodes[trial_id], self._hosts[trial_id] = result["node_id"], result.get("host", "")
        self.supervisor.watch(self.tally)
        self._note_running()
        self._note_progress()

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Removes an ended pack; if its worker died, requeues or quarantines the trials that have not ended."""
        turn = self.running.pop(trial_id)
        if result and "settled" in result:
            self.on_trial_result(trial_id, result)
        if error:
            with self._error_deferred():
                self._requeue(turn, self._nodes.get(trial_id))

    @contextmanager
    def _error_deferred(self) -> Iterator[None]:
        """Stores an error of the results folder, which ends the launch after the running packs; Tune would hide it."""
        try:
            yield
        except StoreError as error:
            self.error = error

    def _requeue(self, turn: Turn, node_id: str | None) -> None:
        """Queues the remaining trials of a pack whose worker died on this machine, or quarantines them."""
        words = self.supervisor.last_words(turn.pack)
        rest = self.supervisor.remaining(turn.pack)
        if rest is None:
            return
        if node_id and self.supervisor.was_preempted(node_id):  # not caused by the pack
            self.waiting += self._from_checkpoints([replace(turn, pack=rest)])
            return
        (steps,) = self.supervisor.reached([rest])
        has_progress = made_progress(turn, rest, steps)
        self.deaths[turn.origin] += not has_progress
        deaths = self.deaths[turn.origin]
        turns = after_death(turn, rest, has_progress=has_progress, has_hung=words.has_hung, is_spent=deaths >= DEATHS)
        self.waiting += self._from_checkpoints(turns)
        if not turns:
            self.supervisor.quarantine(rest, deaths, words)

    def _turns(self, packs: Sequence[Pack]) -> list[Turn]:
        return self._from_checkpoints([Turn(pack, pack.pack_id) for pack in packs])

    def _from_checkpoints(self, turns: Sequence[Turn]) -> list[Turn]:
        """Returns the turns with the steps in checkpoints, which only the turns' workers will change."""
        steps = self.supervisor.reached([turn.pack for turn in turns]) if turns else []
        rows = zip(turns, steps, strict=True)
        return [replace(turn, reached=reached, left=turn.pack.steps - reached) for turn, reached in rows]

    def _note_running(self, *, changed: bool = False) -> None:
        """Stores the running packs if they have changed, at most once in NOTE_SECONDS."""
        self._is_noted &= not changed
        if not self._is_noted and time.monotonic() > self._note_at:
            packs = [turn.pack for turn in self.running.values()]
            self.supervisor.note_running({pack.pack_id: [trial.trial_id for trial in pack.trials] for pack in packs})
            self._is_noted, self._note_at = True, time.monotonic() + NOTE_SECONDS

    def _phase(self) -> str:
        """Returns the furthest phase of the packs at work."""
        phases = {self._tallies[trial_id].phase for trial_id in self.running if trial_id in self._tallies}
        return max(phases & {*PHASES}, key=PHASES.index, default="")

    def _note_progress(self) -> None:
        packs = [
            PackAtWork(turn.pack, self._hosts.get(trial_id, ""), self._began[trial_id], self._tallies.get(trial_id))
            for trial_id, turn in self.running.items()
        ]
        self._progress.update(self.tally, packs)

    def save(self, checkpoint_path: str) -> None:
        """Does nothing: the remaining work is read from the tables."""

    def restore(self, checkpoint_path: str) -> None:
        """Does nothing: the remaining work is read from the tables."""


class Steward(tune.Callback):  # type: ignore[misc]
    """Makes signals act as in the rest of the launch, and keeps Tune's memory small.

    Tune has a handler of its own for SIGUSR1, and keeps several copies of the configuration of each pack.
    """

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Sets the handlers of the launch again, before the first step."""
        if iteration == 0:
            interruption.arm()

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Drops the pack of a Tune trial that has ended, and the texts that Tune has made of it."""
        trial.experiment_tag = ""
        for values in (trial.config, trial.evaluated_params, trial.last_result):
            for name in ("pack", "config", "experiment_tag"):
                values.pop(name, None)

    on_trial_error = on_trial_complete


@contextmanager
def _handlers_restored() -> Iterator[None]:
    """Restores the handlers of signals that Tune leaves behind."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)
            interruption.arm()


@_handlers_restored()
def run(
    packs: list[Pack],
    store: Store,
    device: str,
    workers: int,
    budget_seconds: float | None,
    limits: WorkerLimits,
    supervisor: PackSupervisor,
    workers_per_gpu: int = 1,
) -> Outcome:
    """Runs these packs to their end, within `cluster()`; returns the outcome. Ctrl-C or a spent budget stops early.

    workers: packs at a time.  budget_seconds: time limit; None: no limit.  workers_per_gpu: that share a GPU.
    Raises StoreError if the results folder can't be read or written.
    """
    # all workers start at once: the worker of a pack that ends takes a pack that waits for a new worker, whose start is
    # then cancelled; with fewer pending starts than ends, the cluster would never fill up
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(workers)
    settings = {
        "results": str(store.results.resolve()),
        "device": device,
        "limits": list(limits),
        "report_seconds": max(REPORT_SECONDS, workers / REPORTS_A_SECOND),
    }
    queue = PackQueue(packs, settings, supervisor)
    scratch = tempfile.mkdtemp(prefix="memsweep-tune-")
    try:
        tuner = tune.Tuner(
            tune.with_resources(PackTrainable, cluster.worker_resources(device, workers_per_gpu)),
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
                callbacks=[Steward()],
                progress_reporter=_NoReporter(),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        )
        with ray_start.without_usage_tags():
            tuner.fit()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if queue.error:
        raise queue.error
    return Outcome(queue.tally, bool(queue.waiting or queue.running))
