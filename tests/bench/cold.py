"""How much longer does the first launch on a machine take than later ones, whose programs are on the disk?

The launch of `make demo`, in turn with an empty folder of compiled programs and with that folder as the first launch
left it. What a launch compiles after its end, at the lowest priority, is waited for before the next one begins.

    python -m tests.bench.cold
    python -m tests.bench.cold --pairs 1 --sweep smoke
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from memsweep.run import compiling
from tests.bench import machine

REPOSITORY = Path(__file__).parents[2]
TARGET = 1.2
"""Most times as long as the warm launch."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sweep", default="memorization_map")
    parser.add_argument("--pairs", type=int, default=2, metavar="N")
    options = parser.parse_args()
    print(f"{machine.header()}\n\n{'seconds':24}{'cold':>10}{'warm':>10}{'cold/warm':>12}", flush=True)
    seconds: dict[str, list[float]] = {"cold": [], "warm": []}
    with tempfile.TemporaryDirectory() as folder:
        launch(options.sweep, Path(folder, "unmeasured"), Path(folder))  # pages of the libraries come to memory
        for number in range(options.pairs):
            programs = Path(folder, f"programs-{number}")
            for way, after in (("cold", "first"), ("warm", "second")):
                seconds[way].append(launch(options.sweep, programs, Path(folder, f"{after}-{number}")))
    cold, warm = (statistics.median(seconds[way]) for way in seconds)
    print(f"{f'launch {options.sweep}':24}{cold:10.1f}{warm:10.1f}{cold / warm:11.2f}x")
    summary = {"benchmark": "cold", "machine": machine.describe(), "sweep": options.sweep, "target": TARGET, **seconds}
    print(f"\n{json.dumps(summary)}")


def launch(sweep: str, programs: Path, results: Path) -> float:
    """Returns the seconds of a launch into a fresh folder; returns after what it compiles behind itself."""
    environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(programs), "MLFLOW_TRACKING_URI": "none"}
    command = [sys.executable, "-m", "memsweep", "launch", sweep, "--results", str(results)]
    began = time.perf_counter()
    ended = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    if ended.returncode:
        sys.exit(f"{' '.join(command)} ended with {ended.returncode}:\n{ended.stderr[-3000:]}")
    while any(programs.rglob(f"{compiling.LOCK}/[!.]*.json")):  # a request that is not met yet
        time.sleep(1)
    return seconds


if __name__ == "__main__":
    main()
