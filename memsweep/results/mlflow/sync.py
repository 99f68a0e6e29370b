"""Fills MLflow from the tables: an experiment a sweep, one run above it, and a run each of its trials.

The only file that knows MLflow, but for its database (`databases.py`). MLflow is a projection, and nothing is
remembered here of what was written: MLflow itself is asked, what it lacks is written, and what is half written, doubled
or outdated is deleted. What a run holds is said in `projection.py`, when this happens in `follow.py`.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

# no chatter and no telemetry; short HTTP patience, because the loops of follow.py are the ones that retry
os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "MLFLOW_CONFIGURE_LOGGING": "false"}
os.environ |= {"MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true"}
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "15")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")

import sqlalchemy
from mlflow import MlflowClient
from mlflow.entities import Experiment, Metric, Param, Run, RunTag, ViewType

from memsweep.results.mlflow import databases, projection
from memsweep.results.mlflow.background import TrackingError as TrackingError
from memsweep.results.mlflow.background import default_uri, shown
from memsweep.results.mlflow.databases import prepare as prepare
from memsweep.results.mlflow.projection import Plan, TrialRun, Wanted
from memsweep.results.storage.location import Location, local_folder, on_disk
from memsweep.results.storage.store import Store
from memsweep.spec.options import SHARES
from memsweep.spec.sweep import LONGEST_NAME

for chatty in ("mlflow", "alembic"):
    logging.getLogger(chatty).setLevel(logging.CRITICAL + 1)

ERRORS = (*databases.ERRORS, OSError, ImportError)
"""What a tracking server may answer, or fail to; requests' own errors are OSErrors. A database may lack its driver."""
TRIALS_AT_A_TIME = 500
"""Read from the tables together."""
RUNS_A_PAGE = 1000
SENTENCE_SECONDS = 10.0
"""Between sentences about a long fill."""
PLACE = ("setting", "mlflow.runName", "mlflow.parentRunId")
"""Tags of a trial's run that change when its sweep is extended."""
ENDED = ("FINISHED", "FAILED", "KILLED")
SWEEP, TRIAL = "sweep", "trial"
"""Values of the tag `role`."""

_ENDS = ("trial_id", "attempt_id", "status", "finished_at", "wall_seconds", "probes", "probe_steps")
_STEP_COLUMNS = ("trial_id", "step", *dict.fromkeys(name for pair in SHARES.values() for name in pair), "gradient_norm")


class Known(NamedTuple):
    """A whole run of a trial, as much of it as is looked at again."""

    run_id: str
    version: str
    place: dict[str, str]  # the tags that an extended sweep changes


class Artifact(NamedTuple):
    """A file of a sweep's run, whose tag of the file's name holds the digest of what was stored."""

    digest: str
    folder: str | None = None  # in MLflow
    path: Location | None = None  # none: the plan, which is no file


@dataclass
class Filled:
    """What MLflow holds of one sweep."""

    experiment_id: str
    plan_digest: str
    parent: Run
    runs: dict[str, Known]  # by trial_id


class Tracking:
    """MLflow at one URI, as this folder's projection. say: told, in a sentence, how far it is.

    Any call may raise one of ERRORS; after it `forget` what was known, then call again.
    """

    def __init__(self, store: Store, uri: str, say: Callable[[str], None] = lambda sentence: None):
        prepare(uri, uri == default_uri(store.results), say)
        self.store = store
        self.uri = uri
        self.say = say
        self.written = 0  # runs written by this object
        self.deleted = 0
        self.look_seconds = 0.0  # of the processor, to read what has ended
        self._said_at = time.monotonic()
        self._sweeps: list[str] = []
        self.client = MlflowClient(uri)
        self._filled: dict[str, Filled] = {}  # by sweep; only what MLflow said or acknowledged

    def forget(self) -> None:
        """MLflow is asked anew at the next `fill`: after an error nobody knows what it holds."""
        self._filled.clear()

    def fill(self) -> dict[str, int]:
        """Makes MLflow hold exactly what the tables say. Returns sweep -> trials that MLflow holds."""
        with _rarely_collected():
            began = time.process_time()
            ends = {row["trial_id"]: row for row in self.store.trials(_ENDS).to_pylist()}
            running = self.store.running()
            plans = projection.plans(self.store.current("wanted"))
            self._sweeps = [plan.sweep for plan in plans]
            self.look_seconds = time.process_time() - began
            held = {}
            for plan in plans:
                mine = {trial: ends[trial] for trial in plan.trials if trial in ends}
                filled = self._asked(plan, mine)
                self._fill_trials(plan, mine, filled)
                self._fill_parent(plan, mine, filled, live=not running.isdisjoint(plan.trials))
                held[plan.sweep] = len(filled.runs)
            return held

    def _asked(self, plan: Plan, ends: Mapping[str, Mapping[str, Any]]) -> Filled:
        """What MLflow holds of this sweep, after what is doubled, half written or outdated has been deleted."""
        filled = self._filled.get(plan.sweep)
        if filled is None or filled.plan_digest != plan.digest:
            experiment_id = self._experiment(plan)
            parents: list[Run] = []
            whole: dict[str, Known] = {}
            useless: list[str] = []  # deleted only when all pages are read, since a page is counted from the first run
            for run in self._runs(experiment_id):
                tags = run.data.tags
                if tags.get("role") == SWEEP:
                    parents.append(run)
                elif tags.get("role") == TRIAL and tags.get("trial_id") not in plan.trials:
                    useless.append(run.info.run_id)  # of an earlier launch of the sweep, which wants it no more
                elif tags.get("role") == TRIAL and (end := ends.get(tags.get("trial_id", ""))):
                    if end["trial_id"] in whole or not _is_whole(run, end):
                        useless.append(run.info.run_id)
                    else:
                        place = {name: tags.get(name, "") for name in PLACE}
                        whole[end["trial_id"]] = Known(run.info.run_id, _version(end), place)
            self._delete(useless)
            filled = Filled(experiment_id, plan.digest, self._parent(plan, ends, experiment_id, parents), whole)
            self._refresh(plan, filled)
            self._filled[plan.sweep] = filled
        for trial, end in ends.items():  # tried again since MLflow was asked
            if (known := filled.runs.get(trial)) and known.version != _version(end):
                self._delete([known.run_id])
                del filled.runs[trial]
        return filled

    def _delete(self, run_ids: list[str]) -> None:
        for run_id in run_ids:
            self.client.delete_run(run_id)
            self.deleted += 1

    def _experiment(self, plan: Plan) -> str:
        """The sweep's experiment: made, or brought back if it was deleted in MLflow."""
        root = self._artifact_root()
        location = f"{root}/{plan.sweep[:LONGEST_NAME]}" if root else None  # older versions took longer names
        found: Experiment | None = self.client.get_experiment_by_name(plan.sweep)
        is_own = self.uri == default_uri(self.store.results)
        if found and is_own and found.artifact_location != location:  # the folder has been moved or copied
            self.client.rename_experiment(found.experiment_id, f"{plan.sweep} (before a move, {found.experiment_id})")
            self.client.delete_experiment(found.experiment_id)
            found = None
        if found is None:
            kind = {"mlflow.experimentKind": "custom_model_development"}  # opens the table of runs, not a GenAI page
            identity = self.client.create_experiment(plan.sweep, location, kind)
            found = self.client.get_experiment(identity)
        elif found.lifecycle_stage == "deleted":
            self.client.restore_experiment(found.experiment_id)
        for tag, value in _views(plan).items():
            if found.tags.get(tag) != value:
                self.client.set_experiment_tag(found.experiment_id, tag, value)
        return str(found.experiment_id)

    def _artifact_root(self) -> str | None:
        """Of a database, in the results folder; servers know their own places."""
        results = self.store.results
        if self.uri.startswith(("http:", "https:")):
            return None
        if self.uri == default_uri(results) or isinstance(results, Path):
            return (local_folder(results) / "mlartifacts").as_uri()
        return str(results / "mlartifacts")

    def _runs(self, experiment_id: str) -> Iterator[Run]:
        """This folder's that are not deleted, oldest first; on a server, others may have a sweep of the same name."""
        ours, token = f"tags.results = '{self.store.identity()}'", None
        while True:
            page = self.client.search_runs(
                [experiment_id], ours, ViewType.ACTIVE_ONLY, RUNS_A_PAGE, ["start_time ASC"], token
            )
            yield from page
            token = page.token
            if not token:
                return

    def _parent(self, plan: Plan, ends: Mapping[str, Mapping[str, Any]], experiment_id: str, found: list[Run]) -> Run:
        """The run above the sweep's trials. MLflow changes no parameter, so one with others is replaced.

        It has no metrics, which would be dots among its trials' curves; what an older version wrote had some.
        """
        kept = next((run for run in found if run.data.params == plan.shared and not run.data.metrics), None)
        self._delete([run.info.run_id for run in found if run is not kept])
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

    def _refresh(self, plan: Plan, filled: Filled) -> None:
        """An axis that was added changes the names of settings: runs learn theirs, and who their parent is."""
        for trial, known in filled.runs.items():
            wanted = plan.trials[trial]
            place = self._place(wanted, filled)
            if known.place != place:
                self.client.log_batch(known.run_id, params=_params(wanted.parameters), tags=_tags(place))
                filled.runs[trial] = known._replace(place=place)

    def _place(self, wanted: Wanted, filled: Filled) -> dict[str, str]:
        return {
            "setting": wanted.setting[: projection.LONGEST_TAG],
            "mlflow.runName": wanted.name,
            "mlflow.parentRunId": filled.parent.info.run_id,
        }

    def _fill_trials(self, plan: Plan, ends: Mapping[str, Mapping[str, Any]], filled: Filled) -> None:
        left = [trial for trial in plan.trials if trial in ends and trial not in filled.runs]
        left.sort(key=lambda trial: (projection.milliseconds(ends[trial]), trial))  # whole packs stay together
        for begin in range(0, len(left), TRIALS_AT_A_TIME):
            chunk = left[begin : begin + TRIALS_AT_A_TIME]
            for trial, run in self._trial_runs(plan, {trial: ends[trial] for trial in chunk}):
                place = self._place(plan.trials[trial], filled)
                run_id = self._write(run, place, filled.experiment_id)
                filled.runs[trial] = Known(run_id, _version(ends[trial]), place)
                self.written += 1
                if time.monotonic() - self._said_at > SENTENCE_SECONDS:
                    self._said_at = time.monotonic()
                    self.say(f"{plan.sweep}: {len(filled.runs)} of {len(ends)} trials are in MLflow")

    def _trial_runs(self, plan: Plan, ends: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, TrialRun]]:
        """The runs of trials with these ends, by trial_id, in their order."""
        chosen = {end["attempt_id"] for end in ends.values()}
        rows = {(row["trial_id"], _version(row)): row for row in self.store.rows_of("trials", chosen).to_pylist()}
        steps: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for step in self.store.rows_of("steps", chosen, _STEP_COLUMNS).to_pylist():
            steps.setdefault((step["trial_id"], step["attempt_id"]), []).append(step)
        for trial, end in ends.items():
            own = steps.get((trial, end["attempt_id"]), [])
            yield trial, projection.trial_run(plan.sweep, plan.trials[trial], rows[trial, _version(end)], own)

    def _write(self, run: TrialRun, place: dict[str, str], experiment_id: str) -> str:
        """Three calls; the run is whole when the last one has ended it, since `_asked` deletes what is not ended."""
        tags = {**run.tags, **place, "results": self.store.identity(), "role": TRIAL}
        run_id: str = self.client.create_run(experiment_id, run.started, tags, run.name).info.run_id
        self.client.log_batch(run_id, [Metric(*point) for point in run.points], _params(run.parameters))
        self.client.set_terminated(run_id, run.status, run.ended)
        return run_id

    def _fill_parent(self, plan: Plan, ends: Mapping[str, Mapping[str, Any]], filled: Filled, live: bool) -> None:
        """Counts, status and files of the sweep's run, where they have changed."""
        run, run_id = filled.parent, filled.parent.info.run_id
        counts = plan.counts(ends)
        tags = {name: str(count) for name, count in counts.items()}
        last = max(map(projection.milliseconds, ends.values()), default=1)
        status = _parent_status(counts, live)
        files = {name: file for name, file in self._files(plan).items() if run.data.tags.get(name) != file.digest}
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
        except (ImportError, PermissionError) as error:  # a store of artifacts that is not within our reach
            self.say(f"{plan.sweep}: MLflow holds the runs, but not {name} ({shown(error)})")
        filled.parent = self.client.get_run(run_id)

    def _files(self, plan: Plan) -> dict[str, Artifact]:
        """The plan, and what `memsweep report` has drawn, by name."""
        results = self.store.results
        drawn = projection.drawn(results, plan.sweep, self._sweeps)
        found = {"plan.csv": Artifact(plan.digest)}
        for path in (results / "report.html", *drawn):
            if path.is_file():
                folder = "figures" if path.parent != results else None
                found[path.name] = Artifact(projection.digest(path.read_bytes()), folder, path)
        return found


def pages(uri: str) -> dict[str, str]:
    """Sweep -> the path, at an MLflow server, of its runs with our columns."""
    found = {}
    for experiment in MlflowClient(uri).search_experiments(order_by=["last_update_time DESC"]):
        if _VIEW in experiment.tags:
            key = _VIEW.removeprefix("mlflow.sharedViewState.")
            place = f"/#/experiments/{experiment.experiment_id}/runs"  # without /runs, a page on generative AI
            found[experiment.name] = f"{place}?workflowType=machine_learning&viewStateShareKey={key}"
    return found


def _is_whole(run: Run, end: Mapping[str, Any]) -> bool:
    return run.info.status in ENDED and _version(run.data.tags) == _version(end)


def _version(row: Mapping[str, Any]) -> str:
    """Of a trial's row, or of its run's tags: its attempt, and how that ended, since a paused one may be given up."""
    return f"{row.get('attempt_id')} {row.get('status')}"


def _parent_status(counts: Mapping[str, int], live: bool) -> str:
    if counts["missing_count"]:
        return "RUNNING" if live else "KILLED"
    return "FAILED" if counts["failed_count"] else "FINISHED"


def _params(values: Mapping[str, str]) -> list[Param]:
    return [Param(name, value) for name, value in values.items()]


def _tags(values: Mapping[str, str]) -> list[RunTag]:
    return [RunTag(name, value) for name, value in values.items()]


_VIEW = "mlflow.sharedViewState.memsweep-trials"


def _views(plan: Plan) -> dict[str, str]:
    """Views that MLflow's page of the experiment offers: all trials, and means over seeds by setting.

    Ordered by setting, because the page loads a hundred runs at a time and groups only what it has loaded. (In any
    order but by time it shows trials outside their parent, so that the parent is left out.) Charts of curves come
    first; the page adds those of what has one value a run.
    """
    columns = [
        *(f"params.`{name}`" for name in (*plan.varying, "seed")),
        *(f"metrics.`{name}`" for name in projection.shares_of(plan)),
        "tags.`status`",
    ]
    table = {
        "selectedColumns": columns,
        "orderByKey": "tags.`setting`",
        "orderByAsc": True,
        "searchFilter": f"tags.role = '{TRIAL}'",
        "compareRunSections": [
            {"uuid": name.lower(), "name": name, "display": True, "isReordered": False, "isGenerated": True}
            for name in ("Curves", "Model metrics")
        ],
        "compareRunCharts": [_chart(name) for name in projection.CURVES if name in projection.shares_of(plan)],
    }
    by_setting = {"aggregateFunction": "average", "groupByKeys": [{"mode": "tag", "groupByData": "setting"}]}
    views = {_VIEW: ("Trials", table), f"{_VIEW[:-6]}settings": ("Settings", {**table, "groupBy": by_setting})}
    return {
        tag: json.dumps({"name": name, "createdAt": 1, "updatedAt": 1, "state": json.dumps(state)})
        for tag, (name, state) in views.items()
    }


def _chart(name: str) -> dict[str, Any]:
    """A line a run, as the page of an experiment stores its charts."""
    place = {"uuid": f"curve-{name}", "metricSectionId": "curves", "deleted": False, "isGenerated": True}
    what = {"type": "LINE", "metricKey": name, "displayName": name, "runsCountToCompare": 10}
    axes = {"xAxisKey": "step", "xAxisScaleType": "linear", "scaleType": "linear", "yAxisKey": "metric"}
    return {
        **place, **what, **axes, "range": {}, "lineSmoothness": 0, "selectedXAxisMetricKey": "",
        "yAxisExpressions": [], "ignoreOutliers": False, "useGlobalXaxisKey": True, "useGlobalLineSmoothing": True,
    }  # fmt: skip


@sqlalchemy.event.listens_for(sqlalchemy.Engine, "connect")
def _write_ahead(connection: Any, _: Any) -> None:
    """SQLite: a run costs 4 ms of 34 less, and whoever reads, such as `memsweep ui`, never waits for us."""
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")


@contextmanager
def _rarely_collected() -> Iterator[None]:
    """MLflow makes thousands of small objects a run; looking for cycles among them costs 3 ms of 30."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
