"""What do curves of trials in training cost a launch of work A?

Pairs of launches, alternately without and with the rows of `live` and the notes on progress, each in an empty folder,
with cached programs. `Without` sets the time of the first rows and of the second note out of reach, in every process of
the launch. Prints each pair, and the median ratio with its interval from the signs of all pairs. MLflow is left out:
its RUNNING runs begin when trials have trained for 20 s without an end, which those of work A do not.

    python -m tests.bench.live_curves --pairs 5
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

from tests.bench import machine

REPOSITORY = Path(__file__).parents[2]
SWEEP = "sweeps/generalization.py"
WITHOUT = '''
"""Python imports this module first: it changes constants of memsweep's modules as they are imported."""
import importlib.abc, importlib.util, sys

CONSTANTS = {"memsweep.run.worker.live": "FIRST_SECONDS", "memsweep.run.progress_note": "NOTE_SECONDS"}

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name not in CONSTANTS:
            return None
        constant = CONSTANTS.pop(name)
        spec = importlib.util.find_spec(name)
        run = spec.loader.exec_module

        def exec_module(module):
            run(module)
            setattr(module, constant, 1e9)

        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, Finder())
'''


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--limit", type=int, help="most trials of a launch")
    options = parser.parse_args()
    print(machine.header(), flush=True)
    limit = ["--limit", str(options.limit)] if options.limit else []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "without").mkdir()
        (folder / "without/sitecustomize.py").write_text(WITHOUT)
        launch(folder, "warm", limit, live=True)
        ratios = []
        seconds: dict[bool, list[float]] = {False: [], True: []}
        for number in range(options.pairs):
            for live in (False, True) if number % 2 == 0 else (True, False):
                seconds[live].append(launch(folder, f"{number}-{live}", limit, live=live))
            ratios.append(seconds[True][-1] / seconds[False][-1])
            print(
                f"pair {number}: {seconds[False][-1]:.1f} s without, {seconds[True][-1]:.1f} s with: {ratios[-1]:.3f}",
                flush=True,
            )
    pairs = len(ratios)
    print(
        f"median ratio {statistics.median(ratios):.3f}; the median lies in {min(ratios):.3f} to {max(ratios):.3f} with "
        f"a probability of {1 - 2 * 0.5**pairs:.2f}"
    )
    print(json.dumps({"machine": machine.describe(), "without": seconds[False], "with": seconds[True]}))


def launch(folder: Path, name: str, limit: list[str], *, live: bool) -> float:
    """Seconds of a launch into an empty folder."""
    command = [sys.executable, "-m", "memsweep", "launch", SWEEP, *limit, "--results", str(folder / name)]
    path = {} if live else {"PYTHONPATH": str(folder / "without")}
    began = time.perf_counter()
    subprocess.run(
        [*command, "--tracking-uri", "none"], cwd=REPOSITORY, env=os.environ | path, check=True, capture_output=True
    )
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
