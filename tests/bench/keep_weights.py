"""How much time and space does keeping the weights of work A take?

Pairs of launches, alternately without and with `--keep weights`, each in an empty folder, with cached programs. Prints
each pair, the median ratio with its interval from the signs of all pairs, the share of the workers' seconds that goes
into probes and writing, the bytes that `plan` says and those that lie in the folder, and whether networks that
`memsweep.model` loads give the stored counts of right answers.

    python -m tests.bench.keep_weights --pairs 5
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

import memsweep
from tests.bench import machine

REPOSITORY = Path(__file__).parents[2]
SWEEP = "sweeps/generalization.py"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--limit", type=int, help="most trials of a launch")
    parser.add_argument("--checked", type=int, default=1000, help="networks that are loaded")
    options = parser.parse_args()
    print(machine.header(), flush=True)
    limit = ["--limit", str(options.limit)] if options.limit else []
    with tempfile.TemporaryDirectory() as folder:
        launch(Path(folder) / "warm", limit, keep=True)
        ratios, shares = [], {False: list[float](), True: list[float]()}
        for number in range(options.pairs):
            order = (False, True) if number % 2 == 0 else (True, False)
            seconds = {keep: launch(Path(folder) / f"{number}-{keep}", limit, keep=keep) for keep in order}
            ratios.append(seconds[True] / seconds[False])
            for keep in order:
                shares[keep].append(kept_share(Path(folder) / f"{number}-{keep}"))
            print(
                f"pair {number}: {seconds[False]:.1f} s without, {seconds[True]:.1f} s with: {ratios[-1]:.3f}",
                flush=True,
            )
        print(f"median {statistics.median(ratios):.3f}, from {min(ratios):.3f} to {max(ratios):.3f}")
        without, kept_too = (100 * statistics.median(shares[keep]) for keep in (False, True))
        print(f"probes and writing: {without:.2f} % of the workers' seconds without, {kept_too:.2f} % with")
        results = Path(folder) / "0-True"
        kept = sum(path.stat().st_size for path in (results / "networks").glob("*.safetensors"))
        rows = memsweep.table("weights", results)
        said, counted = planned(limit), rows["byte_count"].sum() / 2**20
        print(f"plan: {said:.3f} MiB; files: {kept / 2**20:.3f} MiB; rows of the table: {counted:.3f} MiB")
        trials = memsweep.table("trials", results).head(options.checked)
        same = sum(is_same(row, results) for row in trials.to_dict("records"))
        print(f"{same} of {len(trials)} loaded networks give the stored counts")


def command(verb: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "memsweep", verb, SWEEP, *words],
        cwd=REPOSITORY,
        check=True,
        text=True,
        capture_output=True,
    )


def launch(results: Path, limit: list[str], *, keep: bool) -> float:
    """Seconds of a launch into an empty folder."""
    began = time.perf_counter()
    words = [*limit, "--results", str(results), "--tracking-uri", "none", *(["--keep", "weights"] if keep else [])]
    command("launch", *words)
    return time.perf_counter() - began


def planned(limit: list[str]) -> float:
    """MiB of weights that `plan` says."""
    with tempfile.TemporaryDirectory() as folder:
        words = [*limit, "--results", f"{folder}/none", "--keep", "weights", "--format", "jsonl"]
        return float(json.loads(command("plan", *words).stdout)["weights_mib"])


def kept_share(results: Path) -> float:
    """Share of the workers' seconds that goes into probes, of which kept weights are one, and writing."""
    query = "select sum(probe_seconds + write_seconds) / sum(wall_seconds) as share from packs"
    return float(memsweep.sql(query, results)["share"][0])


def is_same(row: Mapping[Any, Any], results: Path) -> bool:
    """Whether a network answers its validation examples as its trial did."""
    network: Any = memsweep.model(str(row["trial_id"]), results=results)
    count = network.data.validation_count
    with torch.no_grad():
        predicted = network(torch.tensor(network.data.held_out_inputs[:count])).argmax(-1).numpy()
    return bool((predicted == network.data.held_out_labels[:count]).sum() == row["validation_correct_count"])


if __name__ == "__main__":
    main()
