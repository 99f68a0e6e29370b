"""How many runs a second does MLflow take, on SQLite and on PostgreSQL, directly and through a server?

A results folder of finished trials, whose numbers are made up, is written once; then `memsweep track` fills a fresh
MLflow of each kind with it, each a command of its own. What a run costs is the whole command without the start of one
that has nothing to do; tables are made before. CPU s: of that command; servers: of MLflow's and PostgreSQL's, which run
here too, PostgreSQL with its defaults.

    python -m tests.bench.tracking
    python -m tests.bench.tracking --runs 200 --points 50
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from mlflow import MlflowClient

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
SETTINGS = 4
METRICS = ("train_correct_count", "validation_correct_count", "memorized_count", "train_loss_sum_nats")
"""And the loss on validation data: five shares of their counts."""
EXAMPLES = 100
A_PART = 500


class Fill(NamedTuple):
    """One MLflow filled with all runs."""

    backend: str
    runs: int
    seconds: float  # of the command that fills it
    cpu_seconds: float
    server_cpu_seconds: float  # of the server of MLflow and of PostgreSQL
    start_seconds: float  # of a command that finds nothing to do
    stored_runs: int

    @property
    def a_run(self) -> float:
        return (self.seconds - self.start_seconds) / self.runs


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
    print(f"{'':24}{'s':>9}{'ms/run':>9}{'runs/s':>9}{'of sqlite':>11}{'CPU s':>9}{'servers':>9}", flush=True)
    fills: list[Fill] = []
    with tempfile.TemporaryDirectory() as folder:
        few = finished("few", Path(folder), SETTINGS, options.points)
        store = finished("tracking", Path(folder), options.runs, options.points)
        for backend in options.backends:
            with serving(backend, Path(folder)) as (uri, servers):
                fills.append(fill(few, store, backend, uri, servers, options.runs))
            print(line(fills[-1], fills[0]), flush=True)
    told = {
        "benchmark": "tracking",
        "machine": machine.describe(),
        "points": options.points,
        "fills": [one._asdict() for one in fills],
    }
    print(f"\n{json.dumps(told)}")
    if any(one.stored_runs != one.runs for one in fills):
        sys.exit(f"runs are missing, or there twice: {[(one.backend, one.stored_runs) for one in fills]}")


def line(found: Fill, first: Fill) -> str:
    ratio = f"{first.a_run / found.a_run:.2f}x" if first.backend == "sqlite" else ""
    return (
        f"{found.backend:24}{found.seconds:9.1f}{1e3 * found.a_run:9.1f}{1 / found.a_run:9.1f}{ratio:>11}"
        f"{found.cpu_seconds:9.1f}{found.server_cpu_seconds:9.1f}"
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
        trials = sweep.trials[begin : begin + A_PART]
        store.write("steps", [measured(trial, step) for trial in trials for step in range(1, points + 1)])
        store.write("trials", [ended(trial, points) for trial in trials])
    return store


def measured(trial: TrialConfig, step: int) -> dict[str, Any]:
    return {"trial_id": trial.trial_id, "attempt_id": "a", "step": step, **counts(trial.seed, step)}


def ended(trial: TrialConfig, points: int) -> dict[str, Any]:
    fields = {name.replace(".", "_"): cell(value) for name, value in trial.flat().items()}
    own = {"trial_id": trial.trial_id, "setting_id": trial.setting_id, "seed": trial.seed, "attempt_id": "a"}
    end = {"status": "finished", "finished_at": datetime.now(UTC), "wall_seconds": 1.0, "step_count": points}
    return {**fields, **own, **end, "pack_id": "pack", **counts(trial.seed, points)}


def counts(seed: int, step: int) -> dict[str, Any]:
    """Different at each step, as a training's are."""
    fitted = 1 - 0.97 ** (step + seed % 7)
    numbers = {name: round(EXAMPLES * fitted) for name in METRICS if name.endswith("_count")}
    losses = {f"{part}_loss_sum_nats": EXAMPLES * (1 - fitted) for part in ("train", "validation")}
    whole = dict.fromkeys(("train_count", "validation_count", "label_changed_count"), EXAMPLES)
    return {**numbers, **losses, **whole}


@contextmanager
def serving(backend: str, folder: Path) -> Iterator[tuple[str, list[psutil.Process]]]:
    """An MLflow of this kind, empty: its URI, and the first processes of its servers."""
    place = folder / backend.replace(" ", "-")
    place.mkdir()
    if backend.endswith("postgresql"):
        with postgres.serving() as database:
            database.renew()
            own = [psutil.Process(database.process.pid)]
            if backend == "postgresql":
                yield database.uri, own
            else:
                with through_server(place, database.uri) as (uri, servers):
                    yield uri, [*own, *servers]
    elif backend == "sqlite":
        yield f"sqlite:///{place}/mlflow.db", []
    else:
        with through_server(place, None) as found:
            yield found


@contextmanager
def through_server(place: Path, database: str | None) -> Iterator[tuple[str, list[psutil.Process]]]:
    before = set(family(os.getpid()))
    port = free_port()
    with mlflow_server(place, port, database):
        yield f"http://127.0.0.1:{port}", [process for process in family(os.getpid()) if process not in before]


def fill(few: Store, store: Store, backend: str, uri: str, servers: list[psutil.Process], runs: int) -> Fill:
    track(few, uri)  # makes the tables
    start, _ = track(few, uri)
    before = cpu_seconds(servers)
    seconds, cpu = track(store, uri)
    return Fill(backend, runs, seconds, cpu, cpu_seconds(servers) - before, start, stored(store, uri))


def track(store: Store, uri: str) -> tuple[float, float]:
    """Wall and processor seconds of the command."""
    command = [sys.executable, "-m", "memsweep", "track", "--results", str(store.results)]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": uri}
    with tempfile.TemporaryFile("w+") as said:
        began = time.perf_counter()
        with subprocess.Popen(
            command, cwd=REPOSITORY, env=environment, stdin=subprocess.DEVNULL, stdout=said, stderr=said
        ) as process:
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            sys.exit(f"{' '.join(command)} ended with {process.returncode}:\n{said.read()[-4000:]}")
        return time.perf_counter() - began, usage.ru_utime + usage.ru_stime


def cpu_seconds(servers: list[psutil.Process]) -> float:
    """So far, of these and of all that come of them, those that have ended too."""
    everything = {process for server in servers for process in family(server.pid)}
    return sum(sum(process.cpu_times()[:2]) for process in everything) + sum(
        sum(server.cpu_times()[2:4]) for server in servers
    )


def stored(store: Store, uri: str) -> int:
    """Runs of trials that are there."""
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(store.results.name)
    assert experiment is not None, uri
    found, token = 0, None
    while True:
        page = client.search_runs([experiment.experiment_id], "tags.role = 'trial'", max_results=1000, page_token=token)
        found, token = found + len(page), page.token
        if not token:
            return found


if __name__ == "__main__":
    main()
