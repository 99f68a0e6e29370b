"""RUNNING runs of trials in training, with their curves so far. A trial that ends gets a run of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param

from memsweep.results import live
from memsweep.results.mlflow import projection
from memsweep.results.mlflow.projection import Wanted
from memsweep.results.storage.store import Store

MOST_RUNS = 50
"""Most trials in training that MLflow shows: each costs a request at each pass."""
POINTS_A_PASS = 20
"""Most new points of a curve at each pass; a longer piece is thinned and keeps its last point."""
IN_TRAINING = "training"
"""Value of the tag `status`."""


@dataclass
class LiveRun:
    """The run of a trial in training."""

    run_id: str
    begun_at: datetime  # of the training that it shows
    step: int = -1  # of its last point


def curves(store: Store) -> dict[str, list[Mapping[str, Any]]]:
    """Returns trial_id -> rows of `live`, of trials in training; empty if no launch runs."""
    by_trial: dict[str, list[Mapping[str, Any]]] = {}
    for row in live.rows(store).to_pylist() if store.is_locked() else ():
        by_trial.setdefault(row["trial_id"], []).append(row)
    return by_trial


class RunsInTraining:
    """The RUNNING runs of one tracking client; any call may raise what the client raises."""

    def __init__(self, client: MlflowClient):
        self.client = client
        self.runs: dict[tuple[str, str], LiveRun] = {}  # (sweep, trial_id)

    @property
    def run_ids(self) -> set[str]:
        """Returns the ids of the runs."""
        return {run.run_id for run in self.runs.values()}

    def fill(
        self,
        sweep: str,
        trials: Iterable[Wanted],
        curves: Mapping[str, list[Mapping[str, Any]]],
        experiment_id: str,
        tags_of: Callable[[Wanted], Mapping[str, str]],
    ) -> None:
        """Makes the runs of a sweep agree with the curves of its trials in training; other runs of it are deleted.

        trials: in the sweep's order.  curves: trial_id -> rows of `live`.  tags_of: returns a run's tags.
        """
        others = sum(name != sweep for name, _ in self.runs)
        shown = [trial for trial in trials if trial.trial_id in curves][: max(0, MOST_RUNS - others)]
        begun = {trial.trial_id: curves[trial.trial_id][0]["begun_at"] for trial in shown}
        for (name, trial_id), run in list(self.runs.items()):
            if name == sweep and begun.get(trial_id) != run.begun_at:
                self.client.delete_run(run.run_id)
                del self.runs[name, trial_id]
        for trial in shown:
            key = (sweep, trial.trial_id)
            if key not in self.runs:
                self.runs[key] = self._created(trial, begun[trial.trial_id], experiment_id, tags_of(trial))
            self._log(self.runs[key], curves[trial.trial_id])

    def _created(self, trial: Wanted, begun_at: datetime, experiment_id: str, tags: Mapping[str, str]) -> LiveRun:
        tags = {"trial_id": trial.trial_id, "setting_id": trial.setting_id, "status": IN_TRAINING, **tags}
        tags |= {"mlflow.source.name": trial.name, "mlflow.source.type": "LOCAL"}
        start = projection.milliseconds({"finished_at": begun_at})
        run_id: str = self.client.create_run(experiment_id, start, tags, trial.name).info.run_id
        self.client.log_batch(run_id, params=[Param(name, value) for name, value in trial.parameters.items()])
        return LiveRun(run_id, begun_at)

    def _log(self, run: LiveRun, rows: Iterable[Mapping[str, Any]]) -> None:
        new = {row["step"]: row for row in rows if row["step"] > run.step}
        now = round(datetime.now().timestamp() * 1000)
        chosen = projection.thinned(sorted(new), POINTS_A_PASS)
        points = [point for step in chosen for point in projection.points_of(new[step], step, now)]
        if points:
            self.client.log_batch(run.run_id, [Metric(*point) for point in points])
            run.step = chosen[-1]
