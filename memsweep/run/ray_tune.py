"""Packs on Ray Tune: one Tune trial is one pack, on long-lived workers.

Tune places, repeats and stops packs; results go from the workers to the tables, never through Tune.
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

from memsweep.run import cluster  # noqa: F401  first: it sets what Ray reads when it is imported

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
"""How long workers may measure without any of them being done, and the most trials of a program that one is sent."""
ASK_SECONDS = 10.0
"""How long machines have to tell what a dead worker of theirs has left behind."""
PREEMPTED = 3
"""`DeathReason` in `ray.nodes()` of a machine that was taken away with notice (AUTOSCALER_DRAIN_PREEMPTED)."""
NOTE_SECONDS = 2.0
"""At the least, between notes of the trials at work, which are rewritten whole."""
REPORT_SECONDS, REPORTS_A_SECOND = 1.0, 50.0
"""A worker reports about this often, less often where all of them would report more; first of all where it is."""


@dataclass(frozen=True)
class Outcome:
    """How a launch ended."""

    tally: Tally
    interrupted: bool


class Care(NamedTuple):
    """How workers treat a pack that may not end well."""

    checkpoint_seconds: float  # between checkpoints
    patience_seconds: float  # for a piece of work, before the worker is taken to hang


class Supervisor(Protocol):
    """What the queue of packs asks and tells of the launch that it works for."""

    def remaining(self, pack: Pack) -> Pack | None:
        """The trials of a pack that have not ended."""

    def reached(self, packs: Sequence[Pack]) -> list[int]:
        """Of each pack, the steps of its trials that checkpoints hold, in sum. Reads all of these."""

    def last_words(self, pack: Pack) -> LastWords:
        """What the dead worker of a pack has left behind."""

    def was_preempted(self, node_id: str) -> bool:
        """Whether this machine was taken away with notice."""

    def quarantine(self, pack: Pack, deaths: int, words: LastWords) -> None:
        """Gives a pack up, after so many deaths without a gain."""

    def watch(self, tally: Tally) -> None:
        """Told at each report."""

    def note_running(self, trial_ids: list[str]) -> None:
        """Told the trials at work, whenever they change."""

    def more(self) -> list[Pack]:
        """The packs of the next round, asked for when those before have ended; none: all is done."""


class PackTrainable(tune.Trainable):  # type: ignore[misc]  # Ray is not type-checked
    """A worker: trains one pack after another in the same process."""

    _execution: Generator[Any, None, None]  # of the pack at hand, told its progress
    _guard: HangGuard
    _tally: Tally
    _node_id: str  # told first, for the case that it is taken away
    _is_known: bool
    _report_seconds: float

    def setup(self, config: dict[str, Any]) -> None:
        import torch  # here, because the driver needs neither torch nor the time to import it

        torch.set_num_threads(1)
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Trains until it reports again."""
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
    """Hands packs to Tune, one a Tune trial, and hands out again what is left of a pack whose worker died."""

    def __init__(self, packs: list[Pack], settings: dict[str, Any], driver: Supervisor):
        super().__init__(metric="settled", mode="max")
        self.settings = settings
        self.driver = driver
        self.waiting: list[Turn] = self._turns(packs)
        self.running: dict[str, Turn] = {}
        self.deaths: Counter[str] = Counter()  # without a gain, by planned pack
        self.tally = Tally()
        self._steps = sum(turn.pack.steps for turn in self.waiting)  # of all that were asked for
        self._tallies: dict[str, Tally] = {}  # by Tune trial
        self._places: dict[str, str] = {}  # Tune trial -> the machine it is on, as its worker says
        self.error: StoreError | None = None  # that ends the launch
        self._is_noted, self._note_at = True, 0.0  # the trials at work; when they may be told again

    def __getstate__(self) -> dict[str, Any]:
        """Tune copies what it is given into files that nobody reads here; they need no callables."""
        return {"metric": self._metric, "mode": self._mode}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
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
        told = Tally(*(result.get(name, 0) for name in Tally._fields))
        before, self._tallies[trial_id] = self._tallies.get(trial_id, Tally()), told
        if told.trained and trial_id in self.running:  # else it has not looked into checkpoints yet
            self.running[trial_id] = replace(self.running[trial_id], left=told.left)
        settled, failed, trained = (
            all_ + now - then for all_, now, then in zip(self.tally[:3], told[:3], before[:3], strict=True)
        )
        left = sum(turn.left for turn in (*self.waiting, *self.running.values()))
        self.tally = Tally(settled, failed, trained, left, self._steps)
        self._places[trial_id] = result["node_id"]
        self.driver.watch(self.tally)
        self._note_running()

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        turn = self.running.pop(trial_id)
        if result and "settled" in result:
            self.on_trial_result(trial_id, result)
        if error:
            with self._kept_error():
                self._bury(turn, self._places.get(trial_id))

    @contextmanager
    def _kept_error(self) -> Iterator[None]:
        """An error of the results folder ends the launch, when the packs at work have ended; Tune would hide it."""
        try:
            yield
        except StoreError as error:
            self.error = error

    def _bury(self, turn: Turn, node_id: str | None) -> None:
        words = self.driver.last_words(turn.pack)
        rest = self.driver.remaining(turn.pack)
        if rest is None:
            return
        if node_id and self.driver.was_preempted(node_id):  # no fault of the pack's
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
        """With what checkpoints hold of them; only their own workers will change that."""
        steps = self.driver.reached([turn.pack for turn in turns]) if turns else []
        rows = zip(turns, steps, strict=True)
        return [replace(turn, reached=reached, left=turn.pack.steps - reached) for turn, reached in rows]

    def _note_running(self, *, changed: bool = False) -> None:
        """Tells the trials at work if they have changed, at most once in NOTE_SECONDS."""
        self._is_noted &= not changed
        if not self._is_noted and time.monotonic() > self._note_at:
            self.driver.note_running([trial.trial_id for turn in self.running.values() for trial in turn.pack.trials])
            self._is_noted, self._note_at = True, time.monotonic() + NOTE_SECONDS

    def save(self, checkpoint_path: str) -> None:
        """Nothing: what is left to do is read from the tables."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, as above."""


def last_words(results: Location, pack: Pack) -> LastWords:
    """What a pack's dead worker has left behind, in the results folder or on whichever machine; within `cluster()`."""
    if isinstance(results, Path):
        return hang_guard.last_words(results, pack.pack_id)
    look = ray.remote(hang_guard.last_words)
    there = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in ray.nodes() if node["Alive"]]
    options = [{"num_cpus": 0, "max_retries": 0, "scheduling_strategy": where} for where in there]
    asked = [look.options(**own).remote(results, pack.pack_id) for own in options]
    heard = [_result(reference) for reference in ray.wait(asked, num_returns=len(asked), timeout=ASK_SECONDS)[0]]
    return max((words for words in heard if words), key=lambda words: len(words.text), default=LastWords(False, ""))


def was_preempted(node_id: str) -> bool:
    """Whether a machine was taken away with notice; within `cluster()`."""
    return any(node["NodeID"] == node_id and node.get("DeathReason") == PREEMPTED for node in ray.nodes())


def calibrate(
    programs: Sequence[Sequence[TrialConfig]], device: str, care: Care, beside: bool = False
) -> list[Calibration | None]:
    """Measures programs on workers, within `cluster()`; None of those that end their worker, or hang.

    beside: workers of packs hold the processors, and rest; where they hold GPUs, nothing is measured.
    """
    if beside and device == "cuda":
        return [None] * len(programs)

    def measure(text: str) -> Calibration:
        from memsweep.run.policy.calibration import calibrate as calibrate_here  # imports torch

        return calibrate_here(Pack.from_json(text).trials, device)

    remote = ray.remote(measure).options(max_retries=0, **({"num_cpus": 0} if beside else _resources(device)))
    asked = [remote.remote(Pack(tuple(trials[:CALIBRATION_TRIALS]), 1).to_json()) for trials in programs]
    ended: list[Any] = []
    late = asked
    while late:
        done, late = ray.wait(late, num_returns=1, timeout=min(CALIBRATION_SECONDS, care.patience_seconds))
        ended += done
        if not done:  # workers hang
            for reference in late:
                ray.cancel(reference, force=True)
            break
    # of those without a result, the packs will tell what is wrong
    return [_result(reference) if reference in ended else None for reference in asked]


def _result(reference: Any) -> Any:
    """What a task returned; None where its worker ended."""
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
    """Runs these packs to their end, within `cluster()`. Ctrl-C or a spent budget ends it early and keeps the rest."""
    # all workers start at once: a pack that ends gives its worker to a pack that waits for one to start, whose start is
    # given up; where starts are fewer than ends, a cluster would never be full
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
