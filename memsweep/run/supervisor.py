"""Callbacks of the pack queue during a launch: rounds of searches, and the packs of dead workers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from memsweep.results import live, trial_state
from memsweep.results.storage.store import Store
from memsweep.run import checkpoints, plan
from memsweep.run.packing import Pack, Tally
from memsweep.run.recovery.hang_guard import LastWords
from memsweep.run.worker.writer import PackWriter
from memsweep.spec.part import Part
from memsweep.spec.schema import Status, reproduction


class PackSupervisor:
    """The callbacks of `ray_tune.PackQueue` into its launch."""

    def __init__(
        self, store: Store, watch: Callable[[Tally], None], more: Callable[[], list[Pack]], part: Part | None = None
    ):
        self.store = store
        self.watch = watch
        self.more = more
        self.note_running = partial(store.note_running, part=part)
        # parts would overwrite each other's note
        self.note_progress = (lambda note: None) if part else store.note_progress
        self._ended_before = set(_ends(store).items())

    def remaining(self, pack: Pack) -> Pack | None:
        """Returns the pack without its ended trials and those that failed in this launch; None: no trial remains.

        Trials that failed in an earlier launch are in the pack because they are retried.
        """
        failed = {trial_id for trial_id, attempt in _ends(self.store).items() - self._ended_before}
        missing = plan.work(pack.trials, self.store, retry=True).missing
        trials = tuple(trial for trial in missing if trial.trial_id not in failed)
        if not trials:
            return None
        after = max(pack.after, live.newest(self.store, [trial.trial_id for trial in trials]))
        return replace(pack, trials=trials, slots=min(pack.slots, len(trials)), after=after)

    def reached(self, packs: Sequence[Pack]) -> list[int]:
        """Returns the number of steps that checkpoints hold of each pack's trials."""
        steps = checkpoints.steps(self.store)
        return [sum(steps.get(trial.trial_id, 0) for trial in pack.trials) for pack in packs]

    def last_words(self, pack: Pack) -> LastWords:
        """Returns the traceback of a pack's dead worker."""
        from memsweep.run import ray_tasks  # imported already, by the caller

        return ray_tasks.last_words(self.store.results, pack)

    def was_preempted(self, node_id: str) -> bool:
        """Returns whether the provider took this machine away with notice."""
        from memsweep.run import ray_tasks  # imported already, by the caller

        return ray_tasks.was_preempted(node_id)

    def quarantine(self, pack: Pack, deaths: int, words: LastWords) -> None:
        """Stores the trials of a pack as quarantined, with the last worker's traceback and the number of deaths."""
        writer = PackWriter(self.store, pack.pack_id, pack.after)
        company = (
            "it was the only trial left"
            if len(pack.trials) == 1
            else f"{len(pack.trials)} trials were left, which are quarantined together"
        )
        history = f"its packs ended their workers {deaths} times without progress"
        what = f"{history}; at the last death, {company}: {words.summary()}"
        for trial in pack.trials:
            lines = [words.text, what, reproduction(trial, self.store.results)]
            writer.settle(trial, Status.QUARANTINED, {"cause": "\n".join(filter(None, lines))})
        writer.flush()


def _ends(store: Store) -> dict[str, str]:
    """Returns trial that ended with an error -> the attempt that failed."""
    rows = trial_state.failed(store.trials(["trial_id", "attempt_id", "status"]))
    return dict(zip(rows["trial_id"].to_pylist(), rows["attempt_id"].to_pylist(), strict=True))
