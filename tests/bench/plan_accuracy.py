"""Does `memsweep plan` say how long a launch takes?

Sweeps of different kinds, each planned and launched in a fresh folder, one after another and without MLflow: small and
large, with probes, a convolutional and a recurrent network, a user's own one. `start` is the time until the first pack
begins, `end` that after the last, from the launch's own tables. On a quiet machine a plan should be within 25 %.

    python -m tests.bench.plan_accuracy
    python -m tests.bench.plan_accuracy --sweeps smoke probes --repeats 3
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from memsweep.results.query import table
from tests.bench import machine

REPOSITORY = Path(__file__).parents[2]
SWEEPS = {
    "smoke": ("smoke",),
    "generalization": ("generalization", "--set", "seeds=0:1"),
    "probes": ("smoke", "--set", "probes=permutations", "--set", "optimizer.epochs=100"),
    "convolution": ("smoke", "--set", "data.task=mnist5k", "--set", "model.family=cnn", "--set", "model.depth=2"),
    "recurrent": ("sequence_length", "--limit", "12"),
    "own network": ("smoke", "--set", "model.family=tests.cases:Normalized", "--set", "optimizer.epochs=200"),
}
CLOSE = 0.25
"""Relative difference within which a plan is called close."""


class Launch(NamedTuple):
    """What was planned of a launch, and what it took, in seconds."""

    sweep: str
    trials: int
    planned: float
    taken: float
    start: float
    end: float

    @property
    def off(self) -> float:
        """Relative to what it took; below 0 the plan was too short."""
        return self.planned / self.taken - 1


def main() -> None:
    options = parsed()
    print(f"{machine.header()}\n")
    print(
        f"{'sweep':<16}{'trials':>7}{'plan, s':>9}{'launch, s':>11}{'off':>7}{'start, s':>10}{'end, s':>8}", flush=True
    )
    launches = []
    for name in options.sweeps:
        for _ in range(options.repeats):
            row = measure(name, SWEEPS[name])
            print(
                f"{row.sweep:<16}{row.trials:>7}{row.planned:>9.1f}{row.taken:>11.1f}{row.off:>7.0%}"
                f"{row.start:>10.1f}{row.end:>8.1f}",
                flush=True,
            )
            launches.append(row)
    close = sum(abs(row.off) <= CLOSE for row in launches)
    print(f"{close} of {len(launches)} within {CLOSE:.0%}")
    told = [{**row._asdict(), "off": row.off} for row in launches]
    print(json.dumps({"benchmark": "plan_accuracy", "machine": machine.describe(), "launches": told}))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sweeps", nargs="+", choices=SWEEPS, default=list(SWEEPS), metavar="NAME")
    parser.add_argument("--repeats", type=int, default=1)
    return parser.parse_args()


def measure(name: str, words: Sequence[str]) -> Launch:
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder, "results")
        (plan,) = json.loads(f"[{memsweep('plan', *words, '--format', 'jsonl', results=results)}]")
        began = time.time()
        memsweep("launch", *words, "--tracking-uri", "none", results=results)
        ended = time.time()
        packs = table("packs", results)
        ends = packs["finished_at"].map(lambda when: when.timestamp())
        begins = ends - packs["wall_seconds"]
        start, end = float(begins.min()) - began, ended - float(ends.max())
        return Launch(name, plan["missing"], plan["seconds"], ended - began, start, end)


def memsweep(*words: str, results: Path) -> str:
    """What a command prints on stdout."""
    command = [sys.executable, "-m", "memsweep", *words, "--results", str(results)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-4000:]}")
    return done.stdout


if __name__ == "__main__":
    main()
