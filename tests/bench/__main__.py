"""Measures what the targets of speed on a CPU are about, and writes the raw outputs and the table of the page.

Each benchmark runs as a command of its own, one after the other, for about half an hour; its output becomes
docs/benchmarks/NAME.txt. The table "Targets" of docs/benchmarks.md is made anew from their JSON lines. A benchmark that
fails ends the command; what is written before it stays.

    python -m tests.bench
    python -m tests.bench --only work-a builds
    python -m tests.bench --science results
    python -m tests.bench --table
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from tests.bench.planning import TARGET_BYTES, TARGET_SECONDS
from tests.bench.work import QUERY_TARGET

REPOSITORY = Path(__file__).parents[2]
RAW = REPOSITORY / "docs/benchmarks"
PAGE = REPOSITORY / "docs/benchmarks.md"
BEGIN, END = "<!-- targets: written by make bench -->", "<!-- end of targets -->"
RUNS = {
    "work-a": "tests.bench.work",
    "work-b": "tests.bench.work --seeds 50 --skip-mlflow",
    "builds": "tests.bench.builds --cases smoke again report work complete",
    "parts": "tests.bench.builds --cases query",
    "cold": "tests.bench.cold",
    "planning": "tests.bench.planning",
    "mlflow": "tests.bench.tracking --backends sqlite postgresql",
    "program-load": "tests.bench.program_load",
    "compaction": "tests.bench.compaction",
}
"""Name of the raw output -> module and arguments."""
CASES = {
    "smoke": ("`launch smoke`, whole", 2.0),
    "again": ("the same launch again, with nothing to do", None),
    "query": ("three columns of 10,000 parts", 19.0),
    "report": ("`report` of work A", 2.0),
    "work": ("work A to stored Parquet", None),
    "complete": ("work A to report and complete MLflow", None),
    "science": ("`report` of what `make science` leaves", 2.0),
}
"""Case of `builds` -> its name in the table, and how many times faster than the earlier build it should be."""


class Row(NamedTuple):
    """A line of the table."""

    what: str
    other: str  # the peer or the earlier build
    theirs: float
    ours: float
    unit: str
    ratio: float
    target: float | None

    def line(self) -> str:
        target = "" if self.target is None else f"{self.target:g}x, {'met' if self.ratio >= self.target else 'missed'}"
        ratio = f"{figure(self.ratio)}x" if self.ours else ""  # zero has no ratio
        numbers = f"{figure(self.theirs)} {self.unit} | {figure(self.ours)} {self.unit} | {ratio}"
        return f"| {self.what} | {self.other} | {numbers} | {target} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=list(RUNS), choices=RUNS, help="these benchmarks alone")
    parser.add_argument("--science", metavar="RESULTS", help="of make science, whose report is timed, too")
    parser.add_argument("--table", action="store_true", help="only the table, from the raw outputs")
    options = parser.parse_args()
    if options.science and "builds" not in options.only:
        parser.error("--science: is for builds, which --only leaves out")
    for name in () if options.table else options.only:
        more = ["--science", options.science] if name == "builds" and options.science else []
        print(f"{name}: python -m {' '.join([RUNS[name], *more])}", flush=True)
        (RAW / f"{name}.txt").write_text(measured(name, more))
    PAGE.write_text(with_table(PAGE.read_text(), [row for name in RUNS for row in rows_of(name)]))


def measured(name: str, more: Sequence[str] = ()) -> str:
    """Returns the output of a benchmark under a heading; ends this command where the benchmark fails.

    more: arguments, which the heading leaves out.
    """
    command = [sys.executable, "-m", *RUNS[name].split(), *more]
    ended = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=False)
    if ended.returncode:
        sys.exit(f"{name} ended with {ended.returncode}:\n{ended.stdout}")
    title = f"`python -m {RUNS[name]}`, {datetime.now(UTC).date()}"
    return f"{title}\n{'=' * len(title)}\n\n{ended.stdout}"


def with_table(page: str, rows: list[Row]) -> str:
    """Returns the page with these rows between its marks."""
    table = ["| what | beside | its figure | memsweep | faster | target |", "|---|---|---|---|---|---|"]
    return between(page, BEGIN, END, [*table, *(row.line() for row in rows)])


def between(page: str, begin: str, end: str, lines: list[str]) -> str:
    """Returns the page with these lines between its marks."""
    head, found, rest = page.partition(begin)
    _, ended, tail = rest.partition(end)
    if not (found and ended):
        sys.exit(f"{PAGE}: lacks the lines {begin} and {end}, between which the table stands")
    return "\n".join([f"{head}{begin}", "", *lines, "", f"{end}{tail}"])


def rows_of(name: str) -> Iterator[Row]:
    """Yields the lines of a benchmark's last raw output; none where that has no JSON line."""
    path = RAW / f"{name}.txt"
    lines = [line for line in path.read_text().splitlines() if line.startswith("{")] if path.exists() else []
    if lines and name in ROWS:
        yield from ROWS[name](json.loads(lines[-1]))


def of_work(told: dict[str, Any]) -> Iterator[Row]:
    title = told["benchmark"].replace("work_", "work ").replace(" a", " A").replace(" b", " B")
    for how, peers in told["targets"].items():
        ours = told["trial_count"] / told["trials_per_second"][f"memsweep, {how}"]
        for peer, target in peers.items():
            theirs = told["trial_count"] / told["trials_per_second"][peer]
            yield Row(f"{title}, {how}", peer, theirs, ours, "s", theirs / ours, target)
    if (above := told.get("query_seconds_above_empty")) is not None:
        yield of_target(f"three columns of {title} after its launch, above an empty folder", QUERY_TARGET, above, "s")


def of_target(what: str, target: float, ours: float, unit: str) -> Row:
    """Returns a line of a figure that may be as large as its target."""
    return Row(what, "target", target, max(ours, 0.0), unit, target / max(ours, 1e-9), 1.0)


def of_builds(told: dict[str, Any]) -> Iterator[Row]:
    for row in told["rows"]:
        what, target = CASES[row["case"]]
        earlier, now = (sorted(row[build])[len(row[build]) // 2] for build in ("earlier", "now"))
        yield Row(what, f"build {told['against']}", earlier, now, "s", earlier / now, target)


def of_cold(told: dict[str, Any]) -> Iterator[Row]:
    cold, warm = (statistics.median(told[way]) for way in ("cold", "warm"))
    what = f"first launch of `{told['sweep']}` on a machine"
    yield Row(
        what,
        f"later ones, {told['target']:g} times",
        told["target"] * warm,
        cold,
        "s",
        told["target"] * warm / cold,
        1.0,
    )


def of_planning(told: dict[str, Any]) -> Iterator[Row]:
    smaller, larger = told["sizes"]
    grown = (larger["peak_bytes"] - smaller["peak_bytes"]) / (larger["trials"] - smaller["trials"])
    each = larger["planning_seconds"] / larger["trials"] * 1e6
    yield of_target(f"planning of {larger['trials']:,} trials", TARGET_SECONDS * 1e6, each, "us a trial")
    yield of_target(f"memory of a trial up to {larger['trials']:,}", TARGET_BYTES, grown, "B")


def of_tracking(told: dict[str, Any]) -> Iterator[Row]:
    for backend, target in (("sqlite", 20.0), ("postgresql", 10.0)):
        fills = [fill for fill in told["fills"] if fill["backend"] == backend]
        if len(fills) == 2:
            client, bulk = (1e3 * (fill["seconds"] - fill["start_seconds"]) / fill["runs"] for fill in fills)
            yield Row(f"MLflow in bulk, {backend}", "MLflow's client", client, bulk, "ms a run", client / bulk, target)


def of_program_load(told: dict[str, Any]) -> Iterator[Row]:
    traced, loaded = (
        sorted(row["step"] for row in told["rows"][way])[len(told["rows"][way]) // 2] for way in ("traced", "loaded")
    )
    target = round(traced / told["target_seconds"], 1)
    yield Row("first step of a compiled program", "traced anew", traced, loaded, "s", traced / loaded, target)


ROWS: dict[str, Callable[[dict[str, Any]], Iterator[Row]]] = {
    "work-a": of_work,
    "work-b": of_work,
    "builds": of_builds,
    "parts": of_builds,
    "cold": of_cold,
    "planning": of_planning,
    "mlflow": of_tracking,
    "program-load": of_program_load,
}


def figure(value: float) -> str:
    """Returns a number with three digits that count."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    main()
