"""What does planning cost a launch, per trial, in time and memory: expanding, naming, and subtracting what is settled?

Sweeps of tests.bench.scale, as many trials of four settings; with --settings, of one seed each. Each size is measured
in a process of its own, into an empty folder: seconds of `Rounds` and `plan.work`, and the largest memory of the
process, whose growth from one size to the next is shown. Writing `wanted` is measured apart.

    python -m tests.bench.planning
    python -m tests.bench.planning --sizes 10000 100000 --settings
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

from tests.bench import machine
from tests.bench.scale import SETTINGS, SWEEP

RATES = 100
"""Values of a second axis, with --settings."""
TARGET_SECONDS, TARGET_BYTES = 20e-6, 300


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100_000, 1_000_000], metavar="N")
    parser.add_argument("--settings", action="store_true", help="a setting a trial, instead of four with many seeds")
    parser.add_argument("--trials", type=int, help=argparse.SUPPRESS)  # in a fresh process
    options = parser.parse_args()
    if options.trials:
        print(json.dumps(measured(options.trials, by_setting=options.settings)))
        return
    print(f"{machine.header()}\n")
    rows = [in_a_fresh_process(trials, by_setting=options.settings) for trials in options.sizes]
    print("| trials | planning, us a trial | writing `wanted`, us a trial | memory, MiB |")
    print("|---|---|---|---|")
    for row in rows:
        times = [f"{row[name] / row['trials'] * 1e6:.1f}" for name in ("planning_seconds", "writing_seconds")]
        print(f"| {row['trials']:,} | {' | '.join(times)} | {row['peak_bytes'] / 2**20:.0f} |")
    for smaller, larger in pairwise(rows):
        growth = (larger["peak_bytes"] - smaller["peak_bytes"]) / (larger["trials"] - smaller["trials"])
        print(f"\n{smaller['trials']:,} to {larger['trials']:,}: {growth:.0f} bytes a trial (target {TARGET_BYTES})")
    print(f"target of planning: {TARGET_SECONDS * 1e6:.0f} us a trial")
    print(json.dumps({"benchmark": "planning", "machine": machine.describe(), "sizes": rows}))


def in_a_fresh_process(trials: int, *, by_setting: bool) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.bench.planning", "--trials", str(trials), *["--settings"] * by_setting]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    row: dict[str, float] = json.loads(output.splitlines()[-1])
    return row


def measured(trials: int, *, by_setting: bool) -> dict[str, float]:
    from memsweep.results.storage.store import Store
    from memsweep.run import plan
    from memsweep.run.rounds.replay import Replay
    from memsweep.run.rounds.rounds import Rounds
    from memsweep.spec.sweep_files import load_sweep

    text = SWEEP.format(settings=SETTINGS, seeds=trials // SETTINGS)
    if by_setting:
        text = SWEEP.format(settings=trials // RATES, seeds=1)
        text = text.replace("axes={", f'axes={{"optimizer.learning_rate": logspace(-4, -1, {RATES}), ')
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "tiny.py")
        path.write_text(text)
        store, sweep = Store(Path(folder, "results"), create=True), load_sweep(str(path))
        begun = time.perf_counter()
        rounds = Rounds([Replay(sweep, store)], store)
        work = plan.work(rounds.trials, store)
        planned = time.perf_counter()
        rounds.note()
        written = time.perf_counter()
        assert len(work.missing) == len(rounds.missing) == trials
    return {
        "trials": trials,
        "planning_seconds": planned - begun,
        "writing_seconds": written - planned,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


if __name__ == "__main__":
    main()
