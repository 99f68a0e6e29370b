"""Fills MLflow from the tables: an experiment per sweep, with a parent run and a run per trial.

MLflow is a projection, and no record of what was written is kept: MLflow is queried, missing runs are written, and
incomplete, duplicate or outdated runs are deleted. `projection.py` defines what a run holds, `run_writer.py` writes
runs of ended trials, and `follow.py` defines the times of filling.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

# no log messages and no telemetry; short HTTP timeouts, because the loops of follow.py retry
os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "MLFLOW_CONFIGURE_LOGGING": "false"}
os.environ |= {"MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true"}
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "15")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")

from mlflow import MlflowClient
from mlflow.entities import Experiment, Param, Run, RunTag, ViewType

from memsweep.results import notes
from memsweep.results.collection import rarely_collected
from memsweep.results.mlflow import artifacts, databases, leftovers, projection, training, views
from memsweep.results.mlflow.background import TrackingError as TrackingError
from memsweep.results.mlflow.background import default_uri, shown
from memsweep.results.mlflow.databases import prepare as prepare
from memsweep.results.mlflow.projection import Plan, Wanted
from memsweep.results.mlflow.run_writer import RunWriter
from memsweep.results.mlflow.training import RunsInTraining
from memsweep.results.mlflow.trial_runs import ENDS, trial_runs, version
from memsweep.results.storage.accepted import has_code
from memsweep.results.storage.location import local_folder, on_disk
from memsweep.results.storage.store import Store
from memsweep.spec.sweep import LONGEST_NAME

for chatty in ("mlflow", "alembic"):
    logging.getLogger(chatty).setLevel(logging.CRITICAL + 1)

ERRORS = (*databases.ERRORS, OSError, ImportError)
"""Errors of a tracking server or its connection; those of requests are OSErrors. ImportError: a missing driver."""
TRIALS_AT_A_TIME = 500
"""Trials that are read from the tables together."""
RUNS_A_PAGE = 1000
FEW_RUNS = 50
"""Runs that MLflow's client writes in about a second."""
MESSAGE_SECONDS = 10.0
"""Time between sentences about the progress of a long fill."""
PLACE = ("setting", "mlflow.runName", "mlflow.parentRunId")
"""Tags of a trial's run that change when its sweep is extended."""
ENDED = ("FINISHED", "FAILED", "KILLED")
SWEEP, TRIAL = "sweep", "trial"
"""Values of the tag `role`."""


class TrialEntry(NamedTuple):
    """A complete run of a trial in MLflow: the properties that are compared later."""

    run_id: str
    version: str
    place: dict[str, str]  # the tags that an extended sweep changes


@dataclass
class SweepEntry:
    """The runs of one sweep in MLflow."""

    experiment_id: str
    plan_digest: str
    parent: Run
    runs: dict[str, TrialEntry]  # by trial_id


class Tracking:
    """MLflow at one URI, as this folder's projection.  say: called with sentences about the progress.

    Any call may raise one of ERRORS; after an error call `forget`, then call again.
    """

    def __init__(
        self,
        store: Store,
        uri: str,
        say: Callable[[str], None] = lambda sentence: None,
        before_many: Callable[[], None] = lambda: None,
    ):
        prepare(uri, uri == default_uri(store.results), say)
        self.store = store
        self.uri = uri
        self.say = say
        self.before_many = before_many  # called before more than FEW_RUNS runs are written
        self.written = 0  # runs written by this object
        self.deleted = 0
        self.look_seconds = 0.0  # processor time for reading which trials have ended
        self._message_at = time.monotonic()
        self._sweeps: list[str] = []
        self.client = MlflowClient(uri)
        self._entries: dict[str, SweepEntry] = {}  # by sweep; only what MLflow returned or acknowledged
        self._training = RunsInTraining(self.client)
        self._writer = RunWriter(self.client, say)

    def forget(self) -> None:
        """Drops the cache, so that the next `fill` queries MLflow: after an error its content is uncertain."""
        self._entries.clear()
        self._training.runs.clear()

    def fill(self) -> dict[str, int]:
        """Makes MLflow agree with the tables. Returns sweep -> number of its trials in MLflow."""
        with rarely_collected():
            began = time.process_time()
            ends = {row["trial_id"]: row for row in self.store.trials(ENDS).to_pylist()}
            running = self.store.running()
            curves = training.curves(self.store)
            plans = projection.plans(self.store.current("wanted"))
            self._sweeps = [plan.sweep for plan in plans]
            self.look_seconds = time.process_time() - began
            counts = {}
            is_coded = has_code(self.store.read("trials", ["code_fingerprint"]))
            for plan in plans:
                if is_coded:
                    rows = self.store.of_sweep(plan.sweep).trials(ENDS).to_pylist()
                    ends = {row["trial_id"]: row for row in rows}
                mine = {trial: ends[trial] for trial in plan.trials if trial in ends}
                entry = self._query(plan, mine)
                self._fill_trials(plan, mine, entry)
                self._training.fill(plan.sweep, plan.trials.values(), curves, entry.experiment_id, self._tags_of(entry))
                self._fill_parent(plan, mine, entry, live=not running.isdisjoint(plan.trials))
                counts[plan.sweep] = len(entry.runs)
            self.deleted += leftovers.delete(self.client, self.store)
            return counts

    def _query(self, plan: Plan, ends: Mapping[str, Mapping[str, Any]]) -> SweepEntry:
        """Returns the runs of this sweep in MLflow, after deleting duplicate, incomplete and outdated runs."""
        entry = self._entries.get(plan.sweep)
        if entry is None or entry.plan_digest != plan.digest:
            experiment_id = self._experiment(plan)
            parents: list[Run] = []
            whole: dict[str, TrialEntry] = {}
            useless: list[str] = []  # deleted after all pages are read, since pages are counted from the first run
            for run in self._runs(experiment_id):
                tags = run.data.tags
                if tags.get("role") == SWEEP:
                    parents.append(run)
                elif tags.get("role") == TRIAL and tags.get("trial_id") not in plan.trials:
                    useless.append(run.info.run_id)  # of an earlier launch; no longer wanted
                elif run.info.status not in ENDED and run.info.run_id not in self._training.run_ids:
                    useless.append(run.info.run_id)  # left by a process that was killed
                elif tags.get("role") == TRIAL and (end := ends.get(tags.get("trial_id", ""))):
                    if end["trial_id"] in whole or not _is_whole(run, end):
                        useless.append(run.info.run_id)
                    else:
                        place = {name: tags.get(name, "") for name in PLACE}
                        whole[end["trial_id"]] = TrialEntry(run.info.run_id, version(end), place)
            self._delete(useless)
            entry = SweepEntry(experiment_id, plan.digest, self._parent(plan, ends, experiment_id, parents), whole)
            self._refresh(plan, entry)
            self._entries[plan.sweep] = entry
        for trial, end in ends.items():  # trials that ran again since MLflow was queried
            if (earlier := entry.runs.get(trial)) and earlier.version != version(end):
                self._delete([earlier.run_id])
                del entry.runs[trial]
        return entry

    def _delete(self, run_ids: list[str]) -> None:
        for run_id in run_ids:
            self.client.delete_run(run_id)
            self.deleted += 1

    def _experiment(self, plan: Plan) -> str:
        """Returns the id of the sweep's experiment; creates it, or restores it if it was deleted in MLflow."""
        root = self._artifact_root()
        location = f"{root}/{plan.sweep[:LONGEST_NAME]}" if root else None  # older versions allowed longer names
        experiment: Experiment | None = self.client.get_experiment_by_name(plan.sweep)
        is_own = self.uri == default_uri(self.store.results)
        if experiment and is_own and experiment.artifact_location != location:  # the folder has been moved or copied
            self.client.rename_experiment(
                experiment.experiment_id, f"{plan.sweep} (before a move, {experiment.experiment_id})"
            )
            self.client.delete_experiment(experiment.experiment_id)
            experiment = None
        if experiment is None:
            kind = {"mlflow.experimentKind": "custom_model_development"}  # opens the table of runs, not a GenAI page
            identity = self.client.create_experiment(plan.sweep, location, kind)
            experiment = self.client.get_experiment(identity)
        elif experiment.lifecycle_stage == "deleted":
            self.client.restore_experiment(experiment.experiment_id)
        remarks = notes.of_sweeps(self.store).get(plan.sweep, notes.Remarks())
        for tag, value in {**views.views(plan), **views.remarks(remarks)}.items():
            if experiment.tags.get(tag, "") != value:
                self.client.set_experiment_tag(experiment.experiment_id, tag, value)
        return str(experiment.experiment_id)

    def _artifact_root(self) -> str | None:
        """Returns the folder of artifacts beside the results; None for a server, which chooses the folder itself."""
        results = self.store.results
        if self.uri.startswith(("http:", "https:")):
            return None
        if self.uri == default_uri(results) or isinstance(results, Path):
            return (local_folder(results) / "mlartifacts").as_uri()
        return str(results / "mlartifacts")

    def _runs(self, experiment_id: str) -> Iterator[Run]:
        """Yields this folder's active runs, oldest first; other folders on the server may use the same sweep name."""
        ours, token = f"tags.results = '{self.store.identity()}'", None
        while True:
            page = self.client.search_runs(
                [experiment_id], ours, ViewType.ACTIVE_ONLY, RUNS_A_PAGE, ["start_time ASC"], token
            )
            yield from page
            token = page.token
            if not token:
                return

    def _parent(self, plan: Plan, ends: Mapping[str, Mapping[str, Any]], experiment_id: str, parents: list[Run]) -> Run:
        """Returns the parent run of the sweep's trials.

        MLflow can't change parameters, so a run with other parameters is replaced. The run has no metrics, because they
        would appear as dots among the trials' curves; a run with metrics, from an older version, is replaced too.
        """
        kept = next((run for run in parents if run.data.params == plan.shared and not run.data.metrics), None)
        self._delete([run.info.run_id for run in parents if run is not kept])
        if kept is None:
            tags = {
                "results": self.store.identity(),
                "role": SWEEP,
                "sweep": plan.sweep,
                "mlflow.source.name": plan.sweep,
                "mlflow.source.type": "LOCAL",
            }
            start = min(map(projection.started, ends.values()), default=None)
            kept = self.client.create_run(experiment_id, start, tags, plan.sweep)
            self.client.log_batch(kept.info.run_id, params=_params(plan.shared))
        return kept

    def _refresh(self, plan: Plan, entry: SweepEntry) -> None:
        """Updates the setting, name and parent of runs: an added axis changes the names of settings."""
        for trial, run in entry.runs.items():
            wanted = plan.trials[trial]
            place = self._place(wanted, entry)
            if run.place != place:
                self.client.log_batch(run.run_id, params=_params(wanted.parameters), tags=_tags(place))
                entry.runs[trial] = run._replace(place=place)

    def _tags_of(self, entry: SweepEntry) -> Callable[[Wanted], dict[str, str]]:
        """Returns a function that returns the tags of a trial's run that do not depend on how the trial ended."""
        common = {"results": self.store.identity(), "role": TRIAL}
        return lambda wanted: {**self._place(wanted, entry), **common}

    def _place(self, wanted: Wanted, entry: SweepEntry) -> dict[str, str]:
        return {
            "setting": wanted.setting[: projection.LONGEST_TAG],
            "mlflow.runName": wanted.name,
            "mlflow.parentRunId": entry.parent.info.run_id,
        }

    def _fill_trials(self, plan: Plan, ends: Mapping[str, Mapping[str, Any]], entry: SweepEntry) -> None:
        left = [trial for trial in plan.trials if trial in ends and trial not in entry.runs]
        left.sort(
            key=lambda trial: (projection.milliseconds(ends[trial]), trial)
        )  # keeps the trials of a pack together
        if len(left) > FEW_RUNS:
            self.before_many()
        tags_of = self._tags_of(entry)
        for begin in range(0, len(left), TRIALS_AT_A_TIME):
            chunk = left[begin : begin + TRIALS_AT_A_TIME]
            runs = trial_runs(self.store, plan, {trial: ends[trial] for trial in chunk}, tags_of)
            for trial, run_id in self._writer.write(entry.experiment_id, runs):
                place = self._place(plan.trials[trial], entry)
                entry.runs[trial] = TrialEntry(run_id, version(ends[trial]), place)
                self.written += 1
                if time.monotonic() - self._message_at > MESSAGE_SECONDS:
                    self._message_at = time.monotonic()
                    self.say(f"{plan.sweep}: {len(entry.runs)} of {len(ends)} trials are in MLflow")

    def _fill_parent(self, plan: Plan, ends: Mapping[str, Mapping[str, Any]], entry: SweepEntry, live: bool) -> None:
        """Writes counts, status and files of the sweep's run if they have changed."""
        run, run_id = entry.parent, entry.parent.info.run_id
        counts = plan.counts(ends)
        tags = {name: str(count) for name, count in counts.items()}
        last = max(map(projection.milliseconds, ends.values()), default=1)
        status = projection.parent_status(counts, live)
        every = artifacts.files(plan, self.store.results, self._sweeps)
        files = {name: file for name, file in every.items() if run.data.tags.get(name) != file.digest}
        if run.info.status == status and tags.items() <= run.data.tags.items() and not files:
            return
        self.client.log_batch(run_id, tags=_tags(tags))
        if status == "RUNNING":
            self.client.update_run(run_id, status)
        else:
            self.client.set_terminated(run_id, status, last)
        try:
            for name, file in files.items():
                if file.path is None:
                    self.client.log_text(run_id, plan.csv, name)
                else:
                    with on_disk(file.path) as path:
                        self.client.log_artifact(run_id, str(path), file.folder)
                self.client.set_tag(run_id, name, file.digest)
        except (ImportError, PermissionError) as error:  # the store of artifacts can't be reached
            self.say(f"{plan.sweep}: MLflow holds the runs, but not {name} ({shown(error)})")
        entry.parent = self.client.get_run(run_id)


def _is_whole(run: Run, end: Mapping[str, Any]) -> bool:
    return run.info.status in ENDED and version(run.data.tags) == version(end)


def _params(values: Mapping[str, str]) -> list[Param]:
    return [Param(name, value) for name, value in values.items()]


def _tags(values: Mapping[str, str]) -> list[RunTag]:
    return [RunTag(name, value) for name, value in values.items()]
