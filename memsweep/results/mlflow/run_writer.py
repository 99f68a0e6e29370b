"""Writes runs of ended trials into MLflow: in bulk where `bulk.py` can, else one at a time through its client."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from mlflow import MlflowClient
from mlflow.entities import Metric, Param

from memsweep.results.mlflow.projection import TrialRun

if TYPE_CHECKING:
    from memsweep.results.mlflow.bulk import Database

RUNS_A_TRANSACTION = 250
"""Runs of one transaction, which takes about 0.2 s of a core; meanwhile no other process can write to SQLite."""


class UnfitError(Exception):
    """Nothing was written in bulk: MLflow's client has to write the runs, for the reason in the message."""


class RunWriter:
    """Writes runs into one MLflow.  say: called with one sentence if its client has to write them, which is slow."""

    def __init__(self, client: MlflowClient, say: Callable[[str], None]):
        self.client = client
        self.say = say
        self._database: Database | None = None
        self._reason = "MLflow would refuse or change a name or value of theirs"
        self._is_explained = False
        try:
            self._database = _opened(client)
        except UnfitError as error:
            self._reason = str(error)

    def write(self, experiment_id: str, runs: Mapping[str, TrialRun]) -> Iterator[tuple[str, str]]:
        """Yields (key, run id) of each run, once it is whole in MLflow.  runs: by any key, with all their tags.

        Raises what MLflow's client or SQLAlchemy raises.
        """
        left = dict(runs)
        fit = [key for key, run in runs.items() if self._database and self._database.is_fit(run)]
        for begin in range(0, len(fit), RUNS_A_TRANSACTION):
            keys = fit[begin : begin + RUNS_A_TRANSACTION]
            try:
                run_ids = self._database.insert(experiment_id, [runs[key] for key in keys])
            except UnfitError as error:
                self._database, self._reason = None, str(error)
                break
            for key, run_id in zip(keys, run_ids, strict=True):
                del left[key]
                yield key, run_id
        for key, run in left.items():
            self._explain()
            yield key, self._by_client(experiment_id, run)

    def _explain(self) -> None:
        if not self._is_explained:
            self.say(f"MLflow's client writes runs one at a time: {self._reason}")
        self._is_explained = True

    def _by_client(self, experiment_id: str, run: TrialRun) -> str:
        """Writes a run in three calls and returns its id. The last ends it; runs that have not ended are deleted."""
        run_id: str = self.client.create_run(experiment_id, run.started, run.tags, run.name).info.run_id
        parameters = [Param(name, value) for name, value in run.parameters.items()]
        self.client.log_batch(run_id, [Metric(*point) for point in run.points], parameters)
        self.client.set_terminated(run_id, run.status, run.ended)
        return run_id


def _opened(client: MlflowClient) -> Database:
    try:
        from memsweep.results.mlflow.bulk import Database  # from inside MLflow, where any version may move names

        return Database(client)
    except (ImportError, AttributeError) as error:
        raise UnfitError(f"this version of MLflow keeps its tables elsewhere ({error})") from error
