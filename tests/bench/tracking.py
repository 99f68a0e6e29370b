"""How many runs a second does MLflow take, in bulk and by its client, on SQLite, on PostgreSQL and through a server?

A results folder of finished trials, whose numbers are made up, is written once; then `memsweep track` fills a fresh
MLflow of each kind with it, each a command of its own. A database is filled twice, a run at a time by MLflow's client,
and in bulk, and what MLflow's client reads back is compared. What a run costs is the whole command without the start of
one that has nothing to do; tables are made before. CPU: of that command and of the servers, MLflow's and PostgreSQL's,
which run here too, PostgreSQL with its defaults.

    python -m tests.bench.tracking
    python -m tests.bench.tracking --runs 200 --points 50 --backends sqlite
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from mlflow import MlflowClient
from mlflow.entities import Run

from memsweep import Sweep
from memsweep.results.storage.store import Store
from memsweep.run.rounds.definition import write_wanted
from memsweep.spec.config import TrialConfig
from memsweep.spec.schema import cell
from tests.bench import machine
from tests.cluster import postgres
from tests.processes import family, free_port, mlflow_server

REPOSITORY = Path(__file__).parents[2]
BACKENDS = ("sqlite", "postgresql", "server on sqlite", "server on postgresql")
CLIENT, BULK = "client", "bulk"
COMMANDS = {
    BULK: ["-m", "memsweep"],
    CLIENT: [
        "-c",
        "from memsweep.cli.app import main\nfrom memsweep.results.mlflow import bulk\nbulk.REVISIONS = ()\nmain()",
    ],
}
SETTINGS = 4
METRICS = ("train_correct_count", "validation_correct_count", "memorized_count", "train_loss_sum_nats")
"""And the loss on validation data: five shares of their counts."""
EXAMPLES = 100
A_PART = 500
HISTORIES = 20
"""Runs whose curves are compared point by point."""
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


class Fill(NamedTuple):
    """One MLflow filled with all runs."""

    backend: str
    way: str
    runs: int
    seconds: float  # of the command that fills it
    cpu_seconds: float
    server_cpu_seconds: float  # of the server of MLflow and of PostgreSQL
    start_seconds: float  # of a command that finds nothing to do
    start_cpu_seconds: float

    @property
    def a_run(self) -> float:
        return (self.seconds - self.start_seconds) / self.runs

    @property
    def cpu_a_run(self) -> float:
        """Of the command and of the servers."""
        return (self.cpu_seconds - self.start_cpu_seconds + self.server_cpu_seconds) / self.runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2000, help=f"a multiple of {SETTINGS}")
    parser.add_argument("--points", type=int, default=50, help="of each of five metrics")
    parser.add_argument("--backends", nargs="+", default=list(BACKENDS), choices=BACKENDS)
    options = parser.parse_args()
    if options.runs < SETTINGS or options.runs % SETTINGS:
        parser.error(f"--runs: must be a multiple of {SETTINGS}")
    if not postgres.is_here():
        options.backends = [name for name in options.backends if "postgresql" not in name]
        print("no PostgreSQL here: left out")
    print(f"{machine.header()}\n{options.runs} runs of {options.points} points of 5 metrics\n", flush=True)
    print(f"{'':30}{'s':>8}{'ms/run':>9}{'runs/s':>9}{'faster':>9}{'CPU ms/run':>12}{'less CPU':>10}", flush=True)
    fills: list[Fill] = []
    with tempfile.TemporaryDirectory() as folder:
        few = finished("few", Path(folder), SETTINGS, options.points)
        store = finished("tracking", Path(folder), options.runs, options.points)
        for backend in options.backends:
            with serving(backend, Path(folder)) as (empty, servers):
                fills += filled(few, store, backend, empty, servers, options.runs)
    summary = {
        "benchmark": "tracking",
        "machine": machine.describe(),
        "points": options.points,
        "fills": [one._asdict() for one in fills],
    }
    print(f"\n{json.dumps(summary)}")


def filled(
    few: Store, store: Store, backend: str, empty: Callable[[], str], servers: list[psutil.Process], runs: int
) -> list[Fill]:
    """Fills an MLflow of this kind in each way that it has, and compares what is read back."""
    fills, contents = [], []
    for way in (CLIENT,) if "server" in backend else (CLIENT, BULK):
        uri = empty()
        fills.append(fill(few, store, backend, way, uri, servers, runs))
        contents.append(content(store, uri))
        print(line(fills[-1], fills[0]), flush=True)
    if len(contents[0]) != runs or any(other != contents[0] for other in contents):
        sys.exit(f"{backend}: runs are missing, or MLflow's client reads back other values")
    return fills


def line(one: Fill, first: Fill) -> str:
    ratios = "" if one is first else f"{first.a_run / one.a_run:.1f}x"
    less = "" if one is first else f"{first.cpu_a_run / one.cpu_a_run:.1f}x"
    return (
        f"{f'{one.backend}, {one.way}':30}{one.seconds:8.1f}{1e3 * one.a_run:9.2f}{1 / one.a_run:9.1f}{ratios:>9}"
        f"{1e3 * one.cpu_a_run:12.2f}{less:>10}"
    )


def finished(name: str, folder: Path, runs: int, points: int) -> Store:
    """A results folder of this name, whose only sweep has ended."""
    base = {
        "data.task": "gaussian",
        "data.input_dim": 8,
        "data.label_scheme": "random",
        "data.noise_kind": "labels",
        "data.noise_fraction": 0.5,
        "data.classes": 2,
        "data.examples": EXAMPLES,
        "data.validation_examples": EXAMPLES,
        "stop.steps": points,
        "stop.measure_steps": 1,
    }
    axes = {"regularization.weight_decay": [10.0**-power for power in range(1, SETTINGS + 1)]}
    sweep = Sweep(name, base=base, axes=axes, seeds=range(runs // SETTINGS))
    store = Store(folder / name, create=True)
    write_wanted(sweep, sweep.trials, store)
    for begin in range(0, runs, A_PART):
        trials, attempt = sweep.trials[begin : begin + A_PART], f"pack-{begin}"
        store.write("steps", [measured(trial, attempt, step) for trial in trials for step in range(1, points + 1)])
        store.write("trials", [ended(trial, attempt, points, begin + i) for i, trial in enumerate(trials)])
    return store


def measured(trial: TrialConfig, attempt: str, step: int) -> dict[str, Any]:
    return {"trial_id": trial.trial_id, "attempt_id": attempt, "step": step, **counts(trial.seed, step)}


def ended(trial: TrialConfig, attempt: str, points: int, number: int) -> dict[str, Any]:
    """A trial that ends 20 ms after the one before it, as in a launch of work A."""
    fields = {name.replace(".", "_"): cell(value) for name, value in trial.flat().items()}
    own = {"trial_id": trial.trial_id, "setting_id": trial.setting_id, "seed": trial.seed, "attempt_id": attempt}
    at = BEGAN + number * timedelta(milliseconds=20)
    end = {"status": "finished", "finished_at": at, "wall_seconds": 1.0, "step_count": points}
    return {**fields, **own, **end, "pack_id": attempt, **counts(trial.seed, points)}


def counts(seed: int, step: int) -> dict[str, Any]:
    """Different at each step, as a training's are."""
    fitted = 1 - 0.97 ** (step + seed % 7)
    numbers = {name: round(EXAMPLES * fitted) for name in METRICS if name.endswith("_count")}
    losses = {f"{part}_loss_sum_nats": EXAMPLES * (1 - fitted) for part in ("train", "validation")}
    whole = dict.fromkeys(("train_count", "validation_count", "label_changed_count"), EXAMPLES)
    return {**numbers, **losses, **whole}


@contextmanager
def serving(backend: str, folder: Path) -> Iterator[tuple[Callable[[], str], list[psutil.Process]]]:
    """A function that returns the URI of an empty MLflow of this kind, and the first processes of its servers."""
    place = folder / backend.replace(" ", "-")
    place.mkdir()
    if backend.endswith("postgresql"):
        with postgres.serving() as database:
            own = [psutil.Process(database.process.pid)]

            def renewed() -> str:
                database.renew()
                return database.uri

            if backend == "postgresql":
                yield renewed, own
            else:
                with through_server(place, renewed()) as (uri, servers):
                    yield lambda: uri, [*own, *servers]
    elif backend == "sqlite":
        numbers = itertools.count()
        yield lambda: f"sqlite:///{place}/{next(numbers)}.db", []
    else:
        with through_server(place, None) as (uri, servers):
            yield lambda: uri, servers


@contextmanager
def through_server(place: Path, database: str | None) -> Iterator[tuple[str, list[psutil.Process]]]:
    before = set(family(os.getpid()))
    port = free_port()
    with mlflow_server(place, port, database):
        yield f"http://127.0.0.1:{port}", [process for process in family(os.getpid()) if process not in before]


def fill(few: Store, store: Store, backend: str, way: str, uri: str, servers: list[psutil.Process], runs: int) -> Fill:
    track(few, way, uri)  # makes the tables
    start = track(few, way, uri)
    before = cpu_seconds(servers)
    seconds, cpu = track(store, way, uri)
    return Fill(backend, way, runs, seconds, cpu, cpu_seconds(servers) - before, *start)


def track(store: Store, way: str, uri: str) -> tuple[float, float]:
    """Wall and processor seconds of the command."""
    command = [sys.executable, *COMMANDS[way], "track", "--results", str(store.results)]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": uri}
    with tempfile.TemporaryFile("w+") as said:
        began = time.perf_counter()
        with subprocess.Popen(
            command, cwd=REPOSITORY, env=environment, stdin=subprocess.DEVNULL, stdout=said, stderr=said
        ) as process:
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - began
        said.seek(0)
        text = said.read()
        wrote = not re.search("^0 runs written", text, re.MULTILINE)
        if process.returncode or ("one at a time" in text) != (way == CLIENT and wrote):
            sys.exit(f"{' '.join(command)} ended with {process.returncode}:\n{text[-4000:]}")
        return seconds, usage.ru_utime + usage.ru_stime


def cpu_seconds(servers: list[psutil.Process]) -> float:
    """So far, of these and of all that come of them, those that have ended too."""
    everything = {process for server in servers for process in family(server.pid)}
    return sum(sum(process.cpu_times()[:2]) for process in everything) + sum(
        sum(server.cpu_times()[2:4]) for server in servers
    )


def content(store: Store, uri: str) -> dict[str, tuple[Any, ...]]:
    """trial_id -> all that MLflow's client reads back of its run, the curves of some."""
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(store.results.name)
    assert experiment is not None, uri
    runs: list[Run] = []
    token = None
    while not runs or token:
        page = client.search_runs([experiment.experiment_id], "tags.role = 'trial'", max_results=1000, page_token=token)
        runs, token = runs + page, page.token
    by_trial = {run.data.tags["trial_id"]: run for run in runs}
    assert len(by_trial) == len(runs), "a trial has two runs"
    compared = set(sorted(by_trial)[:: max(1, len(by_trial) // HISTORIES)])
    return {trial: seen(client, run, trial in compared) for trial, run in by_trial.items()}


def seen(client: MlflowClient, run: Run, with_curves: bool) -> tuple[Any, ...]:
    tags = {name: value for name, value in run.data.tags.items() if name != "mlflow.parentRunId"}
    keys = run.data.metrics if with_curves else ()
    points = {key: client.get_metric_history(run.info.run_id, key) for key in keys}
    curves = {key: sorted((m.step, m.timestamp, m.value) for m in of_key) for key, of_key in points.items()}
    info = run.info
    return info.status, info.start_time, info.end_time, info.run_name, tags, run.data.params, run.data.metrics, curves


if __name__ == "__main__":
    main()
