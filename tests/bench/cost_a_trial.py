"""What does a trial cost as a sweep grows?

Whole `memsweep launch` of tiny trainings, one size after another into fresh folders, without MLflow and uncompiled, so
that what is not training shows: reading and planning the sweep, Ray, first weights, measuring, rows, parts. The start
is a launch of four trials, and is subtracted: `marginal` is the cost of each trial more than the size before, `overall`
that of all trials but the first four. The driver's memory is sampled. Then `missing`, `status` and a `query` of the
whole table are timed, each a command of its own. `plan` is the time until the first pack begins, start-up included.

    python -m tests.bench.cost_a_trial
    python -m tests.bench.cost_a_trial --sizes 100 500 1000
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import psutil

from memsweep.results.query import table
from tests.bench import machine

REPOSITORY = Path(__file__).parents[2]
FRACTIONS = 4
SWEEP = """
from memsweep import Sweep, linspace

SWEEP = Sweep(
    "tiny",
    base={{
        "data.task": "digits",
        "data.examples": 200,
        "data.validation_examples": 50,
        "data.noise_kind": "labels",
        "model.width": 8,
        "optimizer.momentum": 0.9,
        "optimizer.epochs": 3,
    }},
    axes={{"data.noise_fraction": linspace(0, 0.9, {fractions})}},
    seeds=range({seeds}),
)
"""
QUERY = "select data_noise_fraction, sum(validation_correct_count) from trials group by 1 order by 1"
SAMPLE_SECONDS = 0.1
LARGE = 1000
"""Trials from which on the marginal cost should be flat."""
FLAT = 0.2
"""Relative difference between the largest and the smallest of those marginal costs that counts as flat."""


class Size(NamedTuple):
    """What a sweep of so many trials took."""

    trials: int
    finished: int
    seconds: float  # of the whole launch
    planning_seconds: float  # of it, until the first pack begins
    packs: int
    worker_seconds: float  # of it, in packs, summed over workers
    written_seconds: float  # of those, writing parts
    driver_bytes: int  # largest memory of the driver alone
    worker_bytes: int  # largest memory of any worker
    stored_bytes: int  # of all parts
    missing_seconds: float
    status_seconds: float
    query_seconds: float


class Cost(NamedTuple):
    """Seconds a trial, the start subtracted."""

    trials: int
    overall: float
    marginal: float  # beyond the size before


COLUMNS: dict[str, tuple[str, Callable[[Size], str]]] = {
    "trials": ("", lambda row: f"{row.trials}"),
    "launch": ("s", lambda row: f"{row.seconds:.2f}"),
    "plan": ("s", lambda row: f"{row.planning_seconds:.2f}"),
    "packs": ("", lambda row: f"{row.packs}"),
    "workers": ("s", lambda row: f"{row.worker_seconds:.2f}"),
    "writing": ("s", lambda row: f"{row.written_seconds:.2f}"),
    "driver": ("MiB", lambda row: f"{row.driver_bytes / 2**20:.0f}"),
    "worker": ("MiB", lambda row: f"{row.worker_bytes / 2**20:.0f}"),
    "stored": ("B/trial", lambda row: f"{row.stored_bytes / row.trials:.0f}"),
    "missing": ("s", lambda row: f"{row.missing_seconds:.2f}"),
    "status": ("s", lambda row: f"{row.status_seconds:.2f}"),
    "query": ("s", lambda row: f"{row.query_seconds:.2f}"),
}


def main() -> None:
    options = parsed()
    print(f"{machine.header()}\n")
    print("".join(f"{name:>9}" for name in COLUMNS))
    print("".join(f"{unit:>9}" for unit, _ in COLUMNS.values()), flush=True)
    rows = []
    for trials in (FRACTIONS, *options.sizes):
        row = measure(trials)
        print("".join(f"{shown(row):>9}" for _, shown in COLUMNS.values()), flush=True)
        rows.append(row)
    found = costs([row.trials for row in rows], [row.seconds for row in rows])
    print(f"\nms a trial, {rows[0].seconds:.1f} s of start subtracted\n{'trials':>9}{'overall':>9}{'marginal':>10}")
    for cost in found:
        print(f"{cost.trials:9}{cost.overall * 1e3:9.2f}{cost.marginal * 1e3:10.2f}")
    spread = large_spread(found)
    verdict = (
        "not to be told: fewer than two, or one is lost in noise"
        if spread is None
        else f"{spread:.0%} apart, flat is within {FLAT:.0%}"
    )
    print(f"marginal costs from {LARGE} trials on: {verdict}")
    told = {
        "benchmark": "cost_a_trial",
        "machine": machine.describe(),
        "repeats": 1,
        "sizes": [row._asdict() for row in rows],
        "seconds_a_trial": [cost._asdict() for cost in found],
        "spread_of_large": spread,
        "is_flat": None if spread is None else spread <= FLAT,
    }
    print(json.dumps(told))
    if unfinished := sum(row.trials - row.finished for row in rows):
        sys.exit(f"{unfinished} trials did not finish")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 500, 2000, 5000, 20000], metavar="N")
    options = parser.parse_args()
    if any(size <= FRACTIONS or size % FRACTIONS for size in options.sizes):
        parser.error(f"--sizes: each must be a multiple of {FRACTIONS}, and more than that")
    options.sizes = sorted(set(options.sizes))
    return options


def measure(trials: int) -> Size:
    with tempfile.TemporaryDirectory() as folder:
        sweep, results = Path(folder, "tiny.py"), Path(folder, "results")
        sweep.write_text(SWEEP.format(fractions=FRACTIONS, seeds=trials // FRACTIONS))
        began = time.time()
        seconds, driver_bytes = memsweep(
            "launch", str(sweep), "--tracking-uri", "none", "--compile", "never", results=results
        )
        packs = table("packs", results)
        begins = packs["finished_at"].map(lambda when: when.timestamp()) - packs["wall_seconds"]
        return Size(
            trials=trials,
            finished=int((table("trials", results)["status"] == "finished").sum()),
            seconds=seconds,
            planning_seconds=float(begins.min()) - began,
            packs=len(packs),
            worker_seconds=float(packs["wall_seconds"].sum()),
            written_seconds=float(packs["write_seconds"].sum()),
            driver_bytes=driver_bytes,
            worker_bytes=int(packs["peak_memory_bytes"].max()),
            stored_bytes=sum(part.stat().st_size for part in results.glob("*/*.parquet")),
            missing_seconds=memsweep("missing", str(sweep), results=results)[0],
            status_seconds=memsweep("status", results=results)[0],
            query_seconds=memsweep("query", QUERY, results=results)[0],
        )


def memsweep(*words: str, results: Path) -> tuple[float, int]:
    """Seconds that a command takes, and its largest memory in bytes, without that of its children."""
    command = [sys.executable, "-m", "memsweep", *words, "--results", str(results)]
    with tempfile.TemporaryFile("w+") as errors:
        began, largest = time.perf_counter(), 0
        with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=errors) as process:
            driver = psutil.Process(process.pid)
            while process.poll() is None:
                largest = max(largest, driver.memory_info().rss)  # of a process that has ended: 0
                time.sleep(SAMPLE_SECONDS)
        seconds = time.perf_counter() - began
        if process.returncode:
            errors.seek(0)
            sys.exit(f"{' '.join(command)} ended with {process.returncode}:\n{errors.read()[-4000:]}")
    return seconds, largest


def costs(trials: list[int], seconds: list[float]) -> list[Cost]:
    """Of each size after the first, whose launch counts as the start."""
    pairs = list(zip(trials, seconds, strict=True))
    n0, t0 = pairs[0]
    return [Cost(n, (t - t0) / (n - n0), (t - t1) / (n - n1)) for (n1, t1), (n, t) in pairwise(pairs)]


def large_spread(found: list[Cost]) -> float | None:
    """Largest over smallest marginal cost between sizes of LARGE trials and more, less one.

    None for fewer than two, or where noise makes one negative.
    """
    large = [cost.marginal for before, cost in pairwise(found) if before.trials >= LARGE]
    return max(large) / min(large) - 1 if len(large) > 1 and min(large) > 0 else None


if __name__ == "__main__":
    main()
