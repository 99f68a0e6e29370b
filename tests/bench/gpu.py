"""Is training on a GPU right, and how fast is it? Tests, a kill, memory that runs out, and what the targets are about.

Each item is a command of its own with a limit of time, one after the other, in under 25 minutes together; its line goes
to docs/benchmarks/gpu-table.txt as soon as it ends, and a table of docs/benchmarks.md is made of that file.
What was not run reads "not measured". Without a GPU nothing is run, and the exit code is 2.

    python -m tests.bench.gpu
    python -m tests.bench.gpu --only member-step convolution
    python -m tests.bench.gpu --table
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch

from memsweep.results.storage.store import Store
from memsweep.run.packing import Pack
from memsweep.run.worker.execution import run_pack
from memsweep.spec.config import TrialConfig
from tests import processes
from tests.bench import __main__ as bench
from tests.bench import machine, work

RAW = bench.RAW / "gpu-table.txt"
BEGIN, END = "<!-- gpu: written by make gpu -->", "<!-- end of gpu -->"
TOTAL_SECONDS = 24 * 60
UNMEASURED = "not measured"
MEMBERS = (64, 512, 4096)
FULL_CHANNELS, TAKEN = 200, (4, 16)
SUITES = " ".join(f"tests/test_{name}.py" for name in ("exactness", "devices", "checkpoint", "trainer"))
LONG = ("--set", "stop.steps=20000", "--set", "stop.measure_steps=2000", "--checkpoint", "1s")
"""Options of the launch that is killed: it trains for half a minute."""
MEMORY_BYTES, TRIALS = 1 << 30, 256
"""Memory allotted to a pack that needs three times as much, and its trials."""
PLAIN, ENSEMBLE, WORK_SECONDS = 0.97, 4.0, 60.0
"""Targets: times as fast as plain torch, and as torch.func; seconds of work B."""


class Item(NamedTuple):
    """A command, and what its JSON line says."""

    command: str  # arguments of Python
    seconds: float  # limit
    rows: Callable[[dict[str, Any] | None], Iterator[Row]]  # of its JSON line; None: not measured


class Row(NamedTuple):
    """A line of the table."""

    what: str
    target: str
    figure: str = UNMEASURED
    is_met: bool | None = None  # None: not measured

    def line(self) -> str:
        met = {True: "met", False: "missed", None: ""}[self.is_met]
        return f"| {self.what} | {self.target} | {self.figure} | {met} |"


def main() -> None:
    options = parsed()
    if options.step:
        print(json.dumps(STEPS[options.step]("cuda")))
        return
    if not options.table:
        if not torch.cuda.is_available():
            print("make gpu: torch finds no GPU on this machine, so nothing is measured.", file=sys.stderr)
            sys.exit(2)
        run(options.only)
    found = read()
    bench.PAGE.write_text(bench.between(bench.PAGE.read_text(), BEGIN, END, table(found)))
    wrong = [row.what for row in rows(found) if row.is_met is False and row.what in CHECKS]
    if wrong and not options.table:
        sys.exit(f"wrong: {', '.join(wrong)}; see {RAW}")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=list(ITEMS), choices=ITEMS, help="these items alone")
    parser.add_argument("--table", action="store_true", help="only the table, from the raw output")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)  # in this process; prints a JSON line
    return parser.parse_args()


def run(names: list[str]) -> None:
    """Runs items while there is time, and writes their lines; items that are not run keep their earlier lines."""
    until, found = time.monotonic() + TOTAL_SECONDS, read()
    found = {name: found[name] for name in ITEMS if name in found and name not in names}
    for name in names:
        limit = min(ITEMS[name].seconds, until - time.monotonic())
        if limit > 0:
            print(f"{name}: python {ITEMS[name].command}", flush=True)
            found[name] = result_of(ITEMS[name].command, limit)
            lines = [json.dumps({"item": each, **told}) for each, told in found.items()]
            RAW.write_text("\n".join([machine.header(), *lines, ""]))


def result_of(command: str, limit: float) -> dict[str, Any]:
    """Returns the command's last JSON line, else its last words, with its exit code; -1: it exceeded the limit."""
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, *command.split()], cwd=bench.REPOSITORY, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        output, code = process.communicate(timeout=limit)[0], process.returncode
    except subprocess.TimeoutExpired:
        processes.kill(processes.family(process.pid))
        output, code = process.communicate()[0], -1
    lines = [line for line in output.splitlines() if line.startswith("{")]
    told: dict[str, Any] = json.loads(lines[-1]) if lines and code == 0 else {}
    last = "\n".join(output.splitlines()[-30:])
    return {
        "code": code,
        "command_seconds": round(time.monotonic() - began, 1),
        **told,
        **({} if told else {"output": last}),
    }


def read() -> dict[str, dict[str, Any]]:
    """Returns item -> its JSON line in the raw output."""
    lines = RAW.read_text().splitlines() if RAW.exists() else []
    told = [json.loads(line) for line in lines if line.startswith("{")]
    return {each.pop("item"): each for each in told}


def table(found: dict[str, dict[str, Any]]) -> list[str]:
    """Returns the lines of the table."""
    head = ["| what | target | figure | |", "|---|---|---|---|"]
    return [*head, *(row.line() for row in rows(found))]


def rows(found: dict[str, dict[str, Any]]) -> Iterator[Row]:
    for name, item in ITEMS.items():
        told = found.get(name)
        has_failed = told is not None and told["code"] != 0 and name != "tests"
        for row in item.rows(None if has_failed else told):
            yield row._replace(figure=failure(told["code"]), is_met=False) if told and has_failed else row


def failure(code: int) -> str:
    return "not done in time" if code == -1 else f"ended with {code}"


def of_tests(told: dict[str, Any] | None) -> Iterator[Row]:
    """Yields the row of pytest's last line; a failed test ends it with another code than 0."""
    row = Row("tests of exactness, devices, checkpoints and training", "all pass")
    if told is None:
        yield row
        return
    passed, failed = (
        sum(int(number) for number in re.findall(rf"(\d+) (?:{words})", told.get("output", "")))
        for words in ("passed", "failed|error")
    )
    figure = f"{passed} of {passed + failed} passed" if passed + failed else failure(told["code"])
    yield row._replace(figure=figure, is_met=told["code"] == 0 and passed > 0)


def of_kill(told: dict[str, Any] | None) -> Iterator[Row]:
    row = Row("a launch that is killed and launched again, beside one that is not", "equal to the bit")
    if told is None:
        yield row
    else:
        figure = f"{told['equal']} of {told['trials']} trials equal, {told['resumed_steps']:,} steps resumed"
        yield row._replace(figure=figure, is_met=told["equal"] == told["trials"] > 0 < told["resumed_steps"])


def of_memory(told: dict[str, Any] | None) -> Iterator[Row]:
    row = Row("a pack of three times the memory", "halved, all trials finish")
    if told is None:
        yield row
    else:
        figure = f"{told['halvings']} halvings, {told['finished']} of {told['trials']} finished"
        yield row._replace(figure=figure, is_met=told["halvings"] > 0 and told["finished"] == told["trials"])


def of_member_step(told: dict[str, Any] | None) -> Iterator[Row]:
    """Yields, by number of members, the slowest width beside torch.func and beside plain torch."""
    for members in MEMBERS:
        for peer, words, target in (
            ("torch.func", "`torch.func`, uncompiled", ENSEMBLE),
            ("plain", "plain torch", PLAIN),
        ):
            measured = [row for row in told["microseconds"] if row["members"] == members] if told else []
            yield _ratio(f"member step, {members:,} members, beside {words}", target, "us", [
                (row[peer], row["compiled"]) for row in measured
            ])  # fmt: skip


def of_convolution(told: dict[str, Any] | None) -> Iterator[Row]:
    """Yields, by number of members, the faster of in turn and fused at full width beside plain torch."""
    for members in TAKEN:
        measured = [r["milliseconds"] for r in told["rows"] if r["members"] == members] if told else []
        yield _ratio(f"convolution, {FULL_CHANNELS} channels, {members} members, beside plain torch", PLAIN, "ms", [
            (row["plain"], min(row["serial"], row["fused"])) for row in measured
        ])  # fmt: skip


def of_work(told: dict[str, Any] | None) -> Iterator[Row]:
    row = Row("work B, the whole launch", f"{WORK_SECONDS:g} s")
    if told is None:
        yield row
    else:
        is_whole = told["finished"] == told["trials"]
        figure = f"{bench.figure(told['seconds'])} s, {told['finished']:,} of {told['trials']:,} trials"
        yield row._replace(figure=figure, is_met=is_whole and told["seconds"] <= WORK_SECONDS)


def _ratio(what: str, target: float, unit: str, pairs: list[tuple[float, float]]) -> Row:
    """Returns the row of the slowest pair (theirs, ours)."""
    row = Row(what, f"{target:g}x")
    if not pairs:
        return row
    theirs, ours = min(pairs, key=lambda pair: pair[0] / pair[1])
    figure = f"{bench.figure(theirs / ours)}x: {bench.figure(ours)} beside {bench.figure(theirs)} {unit}"
    return row._replace(figure=figure, is_met=theirs / ours >= target)


def killed_and_resumed(device: str) -> dict[str, Any]:
    """Returns how many trials of a launch that was killed and launched again have the bits of one that was not."""
    with tempfile.TemporaryDirectory() as folder:
        whole, killed = (Path(folder) / name for name in ("whole", "killed"))
        command = [sys.executable, "-m", "memsweep", "launch", "smoke", *LONG, "--device", device]
        command += ["--tracking-uri", "none", "--results"]
        subprocess.run([*command, str(whole)], check=True, capture_output=True)
        launch = subprocess.Popen([*command, str(killed)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while launch.poll() is None and not list(killed.glob("checkpoints/[!.]*.safetensors")):
            time.sleep(0.05)
        processes.kill(processes.family(launch.pid))
        launch.wait()
        subprocess.run([*command, str(killed)], check=True, capture_output=True)
        mine, theirs = (
            {row["trial_id"]: row["weights_fingerprint"] for row in _trials(place)} for place in (killed, whole)
        )
        trained = sum(row["member_step_count"] for row in Store(killed).read("packs").to_pylist())
        resumed = sum(row["step_count"] for row in _trials(killed)) - trained
        equal = sum(theirs[trial_id] == fingerprint for trial_id, fingerprint in mine.items())
        return {"trials": len(theirs), "equal": equal, "resumed_steps": resumed}


def out_of_memory(device: str) -> dict[str, Any]:
    """Returns how often a pack is halved that does not fit into the memory allotted to this process."""
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(MEMORY_BYTES / total)
    fields = {"model.width": 1024, "model.depth": 2, "stop.steps": 20, "stop.measure_steps": 20, "data.examples": 200}
    trials = tuple(TrialConfig.of({**fields, "seed": seed}) for seed in range(TRIALS))
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder, create=True)
        for _ in run_pack(Pack(trials, TRIALS), store, device):
            pass
        (row,) = store.read("packs").to_pylist()
        finished = sum(each["status"] == "finished" for each in store.trials().to_pylist())
    halvings = len(re.findall(r"out of memory with \d+ slots", row["cause"] or ""))
    return {"trials": TRIALS, "finished": finished, "halvings": halvings, "cause": row["cause"]}


def work_b(device: str) -> dict[str, Any]:
    """Returns the time of work B's launch, from its command to its end."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "memsweep", "launch", work.SWEEP, "--set", "seeds=0:50", "--device", device]
        began = time.monotonic()
        subprocess.run([*command, "--tracking-uri", "none", "--results", folder], check=True, capture_output=True)
        seconds, trials = time.monotonic() - began, _trials(Path(folder))
        wanted = Store(folder).read("wanted").num_rows
    return {"seconds": seconds, "trials": wanted, "finished": sum(row["status"] == "finished" for row in trials)}


def _trials(results: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = Store(results).trials().to_pylist()
    return rows


MODULE = "-m tests.bench."
ITEMS = {
    "tests": Item(
        f"-m pytest -q --no-header -p no:cacheprovider {SUITES} --device cuda",
        540,
        of_tests,
    ),
    "kill": Item(f"{MODULE}gpu --step kill", 240, of_kill),
    "memory": Item(f"{MODULE}gpu --step memory", 90, of_memory),
    "member-step": Item(
        f"{MODULE}member_step --widths 32 128 --dims 64 --members {' '.join(map(str, MEMBERS))} --device cuda",
        300,
        of_member_step,
    ),
    "convolution": Item(
        f"{MODULE}convolution --channels {FULL_CHANNELS} --dims 3072 "
        f"--members {' '.join(map(str, TAKEN))} --device cuda",
        150,
        of_convolution,
    ),
    "work-b": Item(f"{MODULE}gpu --step work-b", 240, of_work),
}
STEPS: dict[str, Callable[[str], dict[str, Any]]] = {
    "kill": killed_and_resumed,
    "memory": out_of_memory,
    "work-b": work_b,
}
CHECKS = {row.what for name in ("tests", "kill", "memory") for row in ITEMS[name].rows(None)}


if __name__ == "__main__":
    main()
