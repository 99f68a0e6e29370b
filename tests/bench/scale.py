"""Does a trial cost the same in a sweep of 100,000 as in one of 1,000, for the driver and for whoever reads the tables?

Each sweep goes the way of every launch: `plan`, `missing`, `launch` on a Ray of its own, then `status`, `missing`, and
a query before and after `compact`, each a command in a process of its own, without MLflow. Of the commands the wall
time, processor time and largest memory of that process are told (workers are other processes), then what each trial
costs more, from one size to the next, in processor time, since other programs disturb that least. The engines: `tiny`
trains MLPs of 4 units for 4 steps, in packs of 500; `sleep` only sleeps for a quarter of a second a pack of 64 and
writes rows like a training's (stand_in/): so it shows the driver.

With --workers N, that many workers take the packs of one cluster at the same time: this machine says that it has N
processors, and workers without torch sleep. Two loads: packs so short that the driver can't follow, which shows how
many it hands out a second, and longer ones, which show whether workers wait for it.

    python -m tests.bench.scale
    python -m tests.bench.scale --engines sleep --sizes 1000 10000
    python -m tests.bench.scale --engines sleep --members 512 --sizes 100000 1000000
    python -m tests.bench.scale --sizes --workers 200 --packs 2000 --pack-seconds 0.2 20
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import psutil

from memsweep.results.query import table
from tests.bench import machine
from tests.cluster.machines import LOOPBACK, Machines

REPOSITORY = Path(__file__).parents[2]
SETTINGS = 4
SWEEP = """
from memsweep import Sweep, logspace

SWEEP = Sweep(
    "tiny",
    base={{
        "data.task": "gaussian",
        "data.label_scheme": "random",
        "data.classes": 2,
        "data.examples": 16,
        "data.validation_examples": 16,
        "data.input_dim": 4,
        "model.width": 4,
        "model.depth": 1,
        "optimizer.batch_size": 16,
        "stop.steps": 4,
        "stop.measure_steps": 2,
    }},
    axes={{"regularization.weight_decay": logspace(-5, -2, {settings})}},
    seeds=range({seeds}),
)
"""
QUERY = "select count(*), avg(train_loss_sum_nats / train_count) from trials"
NO_TABLE = "select 1"
"""Whose time is the start of the command alone."""
MEMBERS = {"tiny": 500, "sleep": 64}
SLEEP_SECONDS = 0.25
STAND_IN = Path(__file__).with_name("stand_in")
SAMPLE_SECONDS = 0.05
OF_RAY = ("raylet", "gcs_server")


class Spent(NamedTuple):
    """What a command took, without its children."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    ray_cpu_seconds: float  # of Ray's own processes here, workers not counted


class Size(NamedTuple):
    """A sweep of so many trials."""

    engine: str
    trials: int
    finished: int
    packs: int
    plan: Spent
    missing_before: Spent
    launch: Spent
    start_seconds: float  # of the launch, until the first pack begins
    end_seconds: float  # of the launch, after the last pack
    status: Spent
    missing_after: Spent
    no_query: Spent
    query_before: Spent
    parts_before: int
    compact: Spent
    query_after: Spent
    parts_after: int
    stored_bytes: int  # after it


class Crowd(NamedTuple):
    """Many workers at the same time."""

    workers: int
    trials: int
    finished: int
    packs: int
    pack_seconds: float  # that each sleeps
    launch: Spent
    gathering_seconds: float  # from the first pack's begin until all workers have had one
    packs_a_second: float  # between then and the last time a pack was handed out
    waits: list[float]  # seconds that a worker was without a pack between two: quantiles 0.1, 0.5, 0.9
    busy: float  # share of those workers' time that is in packs, between then and then
    driver_busy: float  # processor seconds of the driver a second, start-up included
    available_bytes: int  # memory left on the machine, at the least


COLUMNS: dict[str, tuple[str, Callable[[Size], str]]] = {
    "engine": ("", lambda row: row.engine),
    "trials": ("", lambda row: f"{row.trials}"),
    "packs": ("", lambda row: f"{row.packs}"),
    "plan": ("s", lambda row: f"{row.plan.seconds:.1f}"),
    "launch": ("s", lambda row: f"{row.launch.seconds:.1f}"),
    "start": ("s", lambda row: f"{row.start_seconds:.1f}"),
    "end": ("s", lambda row: f"{row.end_seconds:.1f}"),
    "driver": ("CPU s", lambda row: f"{row.launch.cpu_seconds:.1f}"),
    "Ray": ("CPU s", lambda row: f"{row.launch.ray_cpu_seconds:.1f}"),
    "memory": ("MiB", lambda row: f"{row.launch.peak_bytes / 2**20:.0f}"),
    "missing": ("s", lambda row: f"{row.missing_before.seconds:.1f}"),
    "then": ("s", lambda row: f"{row.missing_after.seconds:.1f}"),
    "status": ("s", lambda row: f"{row.status.seconds:.1f}"),
    "parts": ("", lambda row: f"{row.parts_before}"),
    "query": ("s", lambda row: f"{row.query_before.seconds - row.no_query.seconds:.2f}"),
    "compact": ("s", lambda row: f"{row.compact.seconds:.1f}"),
    "parts ": ("", lambda row: f"{row.parts_after}"),
    "query ": ("s", lambda row: f"{row.query_after.seconds - row.no_query.seconds:.2f}"),
    "stored": ("B/trial", lambda row: f"{row.stored_bytes / row.trials:.0f}"),
}
A_TRIAL: dict[str, tuple[str, float, Callable[[Size], float]]] = {
    "plan": ("ms", 1e3, lambda row: row.plan.cpu_seconds),
    "memory": ("KiB", 1 / 1024, lambda row: float(row.plan.peak_bytes)),
    "launch": ("ms", 1e3, lambda row: row.launch.cpu_seconds),
    "memory ": ("KiB", 1 / 1024, lambda row: float(row.launch.peak_bytes)),
    "wall": ("ms", 1e3, lambda row: row.launch.seconds),
    "missing": ("ms", 1e3, lambda row: row.missing_before.cpu_seconds),
    "then": ("ms", 1e3, lambda row: row.missing_after.cpu_seconds),
    "status": ("ms", 1e3, lambda row: row.status.cpu_seconds),
    "query": ("ms", 1e3, lambda row: row.query_before.cpu_seconds),
    "compact": ("ms", 1e3, lambda row: row.compact.cpu_seconds),
    "query ": ("ms", 1e3, lambda row: row.query_after.cpu_seconds),
}
"""What grows with the trials: its unit, so many of it in one of ours, and where it stands."""


def main() -> None:
    options = parsed()
    print(f"{machine.header()}\n", flush=True)
    found: dict[str, list[Size]] = {}
    if options.sizes:
        print("".join(f"{name:>9}" for name in COLUMNS))
        print("".join(f"{unit:>9}" for unit, _ in COLUMNS.values()), flush=True)
    for engine in options.engines if options.sizes else ():
        for trials in options.sizes:
            row = measure(engine, trials, options.members or MEMBERS[engine])
            print("".join(f"{shown(row):>9}" for _, shown in COLUMNS.values()), flush=True)
            found.setdefault(engine, []).append(row)
    for engine, rows in found.items():
        print_costs(engine, rows)
    crowds = [crowd(options.workers, options.packs, seconds) for seconds in options.pack_seconds if options.workers]
    for one in crowds:
        print_crowd(one)
    told = {
        "benchmark": "scale",
        "machine": machine.describe(),
        "repeats": 1,
        "sizes": [_told(row) for rows in found.values() for row in rows],
        "crowds": [_told(one) for one in crowds],
    }
    print(f"\n{json.dumps(told)}")
    unfinished = sum(row.trials - row.finished for rows in found.values() for row in rows)
    if unfinished := unfinished + sum(one.trials - one.finished for one in crowds):
        sys.exit(f"{unfinished} trials did not finish")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", default=[1000, 10_000, 100_000], metavar="N")
    parser.add_argument("--engines", nargs="+", default=list(MEMBERS), choices=list(MEMBERS))
    parser.add_argument("--members", type=int, metavar="N", help="of a pack; default: 500 of tiny, 64 of sleep")
    parser.add_argument("--workers", type=int, default=0, metavar="N", help="simulated, at the same time")
    parser.add_argument("--packs", type=int, default=2000, metavar="N", help="of --workers, 8 trials each")
    parser.add_argument("--pack-seconds", type=float, nargs="+", default=[0.2, 20.0], metavar="S", help="of --workers")
    options = parser.parse_args()
    if any(size < SETTINGS or size % SETTINGS for size in options.sizes):
        parser.error(f"--sizes: each must be a multiple of {SETTINGS}")
    return options


def measure(engine: str, trials: int, members: int) -> Size:
    with tempfile.TemporaryDirectory() as folder:
        sweep, results = written_sweep(folder, trials), Path(folder, "results")
        environment = {**os.environ, **(stood_in(SLEEP_SECONDS) if engine == "sleep" else {})}

        def run(*words: str) -> Spent:
            return spent([*words, "--results", str(results)], environment)

        few = ("--members", str(members))
        plan = run("plan", str(sweep), "--compile", "never", *few)
        missing_before = run("missing", str(sweep))
        began = time.time()
        launch = run("launch", str(sweep), "--tracking-uri", "none", "--compile", "never", *few)
        ended, packs = time.time(), table("packs", results)
        begins = packs["finished_at"].map(lambda when: when.timestamp()) - packs["wall_seconds"]
        status, missing_after = run("status"), run("missing", str(sweep))
        no_query, query_before, parts_before = run("query", NO_TABLE), run("query", QUERY), len(parts(results))
        compact = run("compact")
        return Size(
            engine=engine,
            trials=trials,
            finished=int((table("trials", results)["status"] == "finished").sum()),
            packs=len(packs),
            plan=plan,
            missing_before=missing_before,
            launch=launch,
            start_seconds=float(begins.min()) - began,
            end_seconds=ended - float(packs["finished_at"].max().timestamp()),
            status=status,
            missing_after=missing_after,
            no_query=no_query,
            query_before=query_before,
            parts_before=parts_before,
            compact=compact,
            query_after=run("query", QUERY),
            parts_after=len(parts(results)),
            stored_bytes=sum(part.stat().st_size for part in parts(results)),
        )


PATIENT = {
    "RAY_worker_register_timeout_seconds": "600",
    "RAY_health_check_failure_threshold": "100",
}
"""What is slow because a few processors stand for hundreds is no failure."""


def crowd(workers: int, packs: int, pack_seconds: float) -> Crowd:
    """A launch of so many packs of eight trials on a cluster of one machine that seems to have so many processors."""
    members, trials = 8, 8 * packs
    with tempfile.TemporaryDirectory() as folder:
        sweep, results = written_sweep(folder, trials), Path(folder, "results")
        cluster = Machines([LOOPBACK], {**stood_in(pack_seconds), **PATIENT}, head_processors=workers)
        try:
            words = ["launch", str(sweep), "--tracking-uri", "none", "--compile", "never", "--members", str(members)]
            words += ["--address", cluster.address, "--results", str(results)]
            launch, least = spent_beside(words, cluster.environment, psutil.Process(cluster.head.process.pid))
        finally:
            cluster.kill()
        ran = table("packs", results)
        end = ran["finished_at"].map(lambda when: when.timestamp())
        ran = ran.assign(begin=end - ran["wall_seconds"], end=end).sort_values("begin")
        of_workers = [group for _, group in ran.groupby("device_name")]
        gathered = max(float(group["begin"].iloc[0]) for group in of_workers)
        last = float(ran["begin"].max())
        gaps = ran.assign(gap=ran["begin"] - ran.groupby("device_name")["end"].shift())
        steady = gaps[(gaps["begin"] > gathered) & gaps["gap"].notna()]
        inside = (ran["end"].clip(gathered, last) - ran["begin"].clip(gathered, last)).sum()
        return Crowd(
            workers=len(of_workers),
            trials=trials,
            finished=int((table("trials", results)["status"] == "finished").sum()),
            packs=len(ran),
            pack_seconds=pack_seconds,
            launch=launch,
            gathering_seconds=gathered - float(ran["begin"].min()),
            packs_a_second=len(steady) / (last - gathered) if last > gathered else float("nan"),
            waits=[float(steady["gap"].quantile(q)) for q in (0.1, 0.5, 0.9)],
            busy=float(inside / (len(of_workers) * (last - gathered))) if last > gathered else float("nan"),
            driver_busy=launch.cpu_seconds / launch.seconds,
            available_bytes=least,
        )


def written_sweep(folder: str, trials: int) -> Path:
    path = Path(folder, "tiny.py")
    path.write_text(SWEEP.format(settings=SETTINGS, seeds=trials // SETTINGS))
    return path


def stood_in(pack_seconds: float) -> dict[str, str]:
    """What in the environment makes Ray's workers only sleep."""
    path = os.pathsep.join([str(STAND_IN), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {"PYTHONPATH": path, "SCALE_PACK_SECONDS": str(pack_seconds)}


def spent(words: list[str], environment: dict[str, str]) -> Spent:
    """Runs one command of memsweep to its end."""
    return spent_beside(words, environment, None)[0]


def spent_beside(words: list[str], environment: dict[str, str], cluster: psutil.Process | None) -> tuple[Spent, int]:
    """The same, with the least memory that this machine had left meanwhile.

    cluster: the first process of the cluster that is used; None: the command starts its own.
    """
    command = [sys.executable, "-m", "memsweep", *words]
    with tempfile.TemporaryFile("w+") as errors:
        began, peak, cpu, least = time.perf_counter(), 0, 0.0, psutil.virtual_memory().available
        of_ray: dict[int, float] = {}
        before = ray_seconds(cluster) if cluster else {}
        with subprocess.Popen(
            command, cwd=REPOSITORY, env=environment, stdout=subprocess.DEVNULL, stderr=errors
        ) as process:
            own, look_at = psutil.Process(process.pid), 0.0
            while process.poll() is None:
                with suppress(psutil.Error, OSError):
                    peak = max(peak, peak_bytes(process.pid))
                    cpu = max(cpu, sum(own.cpu_times()[:2]))
                    if time.monotonic() > look_at:  # looking at all children takes longer
                        of_ray |= ray_seconds(cluster or own)
                        least = min(least, psutil.virtual_memory().available)
                        look_at = time.monotonic() + 1.0
                time.sleep(SAMPLE_SECONDS)
        seconds = time.perf_counter() - began
        if process.returncode:
            errors.seek(0)
            sys.exit(f"{' '.join(command)} ended with {process.returncode}:\n{errors.read()[-4000:]}")
    ray = sum(used - before.get(pid, 0.0) for pid, used in of_ray.items())
    return Spent(seconds, cpu, peak, ray), least


def ray_seconds(ancestor: psutil.Process) -> dict[int, float]:
    """Processor seconds so far of the head and the raylet below this process."""
    found = {}
    for process in ancestor.children(recursive=True):
        with suppress(psutil.Error):
            if process.name() in OF_RAY:
                found[process.pid] = float(sum(process.cpu_times()[:2]))
    return found


def peak_bytes(pid: int) -> int:
    """The most memory that a process has had so far, as Linux tells it."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)


def parts(results: Path) -> list[Path]:
    return list(results.glob("*/*.parquet"))


def marginal(rows: list[Size], of: Callable[[Size], float]) -> list[float]:
    """What each trial costs more, from one size to the next."""
    return [(of(row) - of(before)) / (row.trials - before.trials) for before, row in pairwise(rows)]


def print_costs(engine: str, rows: list[Size]) -> None:
    if len(rows) < 2:
        return
    print(f"\n{engine}: what each trial costs more, in processor time (wall: of the launch)")
    print(f"{'':>16}" + "".join(f"{name:>9}" for name in A_TRIAL))
    print(f"{'':>16}" + "".join(f"{unit:>9}" for unit, _, _ in A_TRIAL.values()))
    columns = [[scale * cost for cost in marginal(rows, of)] for _, scale, of in A_TRIAL.values()]
    for (before, row), costs in zip(pairwise(rows), zip(*columns, strict=True), strict=True):
        print(f"{f'{before.trials} to {row.trials}':>16}" + "".join(f"{cost:9.3f}" for cost in costs), flush=True)


def print_crowd(found: Crowd) -> None:
    low, median, high = found.waits
    print(
        f"\n{found.workers} workers, {found.packs} packs of {found.trials // found.packs} trials that sleep "
        f"{found.pack_seconds:g} s: launch {found.launch.seconds:.0f} s, all workers at work after "
        f"{found.gathering_seconds:.0f} s\n"
        f"from then on {found.packs_a_second:.1f} packs/s, {found.packs_a_second * found.trials / found.packs:.0f} "
        f"trials/s; between two packs a worker waits {median:.2f} s (quantiles 0.1 and 0.9: {low:.2f}, {high:.2f})\n"
        f"and is busy {found.busy:.0%} of its time\n"
        f"driver: {found.launch.cpu_seconds:.1f} CPU s ({found.driver_busy:.0%} of a core), "
        f"{found.launch.cpu_seconds / found.packs * 1e3:.0f} ms a pack, {found.launch.peak_bytes / 2**20:.0f} MiB; "
        f"Ray's own processes {found.launch.ray_cpu_seconds:.1f} CPU s; memory left on the machine "
        f"{found.available_bytes / 2**30:.1f} GiB",
        flush=True,
    )


def _told(row: Size | Crowd) -> dict[str, object]:
    return {name: value._asdict() if isinstance(value, Spent) else value for name, value in row._asdict().items()}


if __name__ == "__main__":
    main()
