"""How many times faster than an earlier build are launches, reading, the report and MLflow?

The earlier build is a commit of this repository, exported to a temporary folder; both builds use this environment's
packages. Each case is what a user types, run by the two builds in turn, in folders of their own: `launch smoke` whole;
the same launch again, which has nothing to do; a query of three columns of many small parts, which have not been
compacted; `report` of work A (see `work.py`); work A, its programs on the disk; work A until the report is written and
MLflow is complete; and, with --science, `report` of a copy of the folder that `make science` leaves.

    python -m tests.bench.builds
    python -m tests.bench.builds --against 3976d95 --cases smoke again --pairs 5
    python -m tests.bench.builds --science results
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tests.bench import machine

REPOSITORY = Path(__file__).parents[2]
EARLIER = "3976d95"
"""The build that the targets refer to."""
PARTS = 10_000
WORK_A = ("launch", "generalization", "--set", "seeds=0:5")
QUERY = "select trial_id, status, step_count from trials order by trial_id limit 3"


class Build(NamedTuple):
    """One of the two builds, and the folder of its results."""

    name: str
    code: Path
    folder: Path

    def run(self, *words: str, tracking_uri: str = "none") -> None:
        """Runs `memsweep` with these words; ends the benchmark where it fails."""
        self.python("-m", "memsweep", *words, MLFLOW_TRACKING_URI=tracking_uri)

    def python(self, *arguments: str, **environment: str) -> None:
        """Runs Python with this build's code; ends the benchmark where it fails."""
        command = [sys.executable, *arguments]
        environment = {**os.environ, **environment, "PYTHONPATH": str(self.code)}
        ended = subprocess.run(command, cwd=self.code, env=environment, capture_output=True, text=True, check=False)
        if ended.returncode:
            sys.exit(f"{self.name}: {' '.join(command)} ended with {ended.returncode}:\n{ended.stderr[-3000:]}")

    def fresh(self) -> str:
        """Returns a results folder that does not exist yet."""
        return str(self.folder / str(time.time_ns()))


class Case(NamedTuple):
    """What is timed, and what comes before it."""

    title: str
    prepare: Callable[[Build], str]  # returns the results folder
    time: Callable[[Build, str], None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", default=EARLIER, metavar="COMMIT", help=f"the earlier build; default: {EARLIER}")
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=CASES)
    parser.add_argument("--science", type=Path, metavar="RESULTS", help="the folder that make science leaves")
    parser.add_argument("--pairs", type=int, default=3, metavar="N", help="of the cases that take seconds")
    options = parser.parse_args()
    cases = {name: CASES[name] for name in options.cases}
    if options.science:
        cases["science"] = Case("report of make science", partial(copied, options.science), report)
    print(f"{machine.header()}\n\n{'seconds':36}{'earlier':>10}{'now':>10}{'faster':>10}", flush=True)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        builds = [
            Build("earlier", exported(options.against, Path(folder, "code")), Path(folder, "earlier")),
            Build("now", REPOSITORY, Path(folder, "now")),
        ]
        for build in builds:
            build.folder.mkdir()
            if {"work", "complete"}.intersection(options.cases):  # programs come to the disk
                build.run(*WORK_A, "--compile", "always", "--results", build.fresh())
        for name, case in cases.items():
            pairs = options.pairs if name in QUICK else 1
            seconds = measured(case, builds, pairs)
            earlier, now = (statistics.median(values) for values in seconds)
            rows.append({"case": name, "earlier": seconds[0], "now": seconds[1], "faster": earlier / now})
            print(f"{case.title:36}{earlier:10.2f}{now:10.2f}{earlier / now:9.1f}x", flush=True)
    summary = {"benchmark": "builds", "machine": machine.describe(), "against": options.against, "rows": rows}
    print(f"\n{json.dumps(summary)}")


def exported(commit: str, folder: Path) -> Path:
    """Returns the folder with a commit's files."""
    archive = subprocess.run(["git", "archive", commit], cwd=REPOSITORY, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter="data")
    return folder


def measured(case: Case, builds: list[Build], pairs: int) -> list[list[float]]:
    """Returns the seconds of each build, which take turns in beginning."""
    folders = [case.prepare(build) for build in builds]
    seconds: list[list[float]] = [[] for _ in builds]
    for number in range(pairs):
        for place in (0, 1) if number % 2 == 0 else (1, 0):
            began = time.perf_counter()
            case.time(builds[place], folders[place])
            seconds[place].append(time.perf_counter() - began)
    return seconds


def nothing(build: Build) -> str:
    return ""


def launched(*words: str) -> Callable[[Build], str]:
    """Returns what launches into a fresh folder before the clock runs."""

    def launch(build: Build) -> str:
        results = build.fresh()
        build.run(*words, "--results", results)
        return results

    return launch


def filled(build: Build) -> str:
    """Returns a folder of many parts as workers write them, each build's own."""
    results = build.fresh()
    code = "from pathlib import Path\nfrom tests.bench.compaction import Store, fill\n"
    build.python("-c", f"{code}fill(Store(Path({results!r}), create=True), {PARTS // 2})")
    return results


def copied(results: Path, build: Build) -> str:
    """Returns the folder of a copy of these results, without figures."""
    return str(shutil.copytree(results, build.fresh(), ignore=shutil.ignore_patterns("figures")))


def report(build: Build, results: str) -> None:
    """Writes the report."""
    build.run("report", "--results", results)


def complete(build: Build, _: str) -> None:
    """Launches work A, writes the report and waits for MLflow."""
    results = build.fresh()
    for words in (WORK_A, ("report",), ("track",)):
        build.run(*words, "--results", results, tracking_uri=f"sqlite:///{results}.db")


CASES = {
    "smoke": Case("launch smoke", nothing, lambda build, _: build.run("launch", "smoke", "--results", build.fresh())),
    "again": Case(
        "launch with nothing to do",
        launched("launch", "smoke"),
        lambda build, results: build.run("launch", "smoke", "--results", results),
    ),
    "query": Case(
        f"3 columns of {PARTS:,} parts", filled, lambda build, results: build.run("query", QUERY, "--results", results)
    ),
    "report": Case("report of work A", launched(*WORK_A), report),
    "work": Case("work A", nothing, lambda build, _: build.run(*WORK_A, "--results", build.fresh())),
    "complete": Case("work A, report, MLflow complete", nothing, complete),
}
QUICK = ("smoke", "again", "query")


if __name__ == "__main__":
    main()
