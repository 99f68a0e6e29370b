"""What does a worker's allocator save of a pack's step, in processor time, and what memory does it take?

Each pair is two new processes of one thread: with glibc as it is, and as `memsweep.run.worker.allocator` and
torch's pages of 2 MiB set it. A step is all of it, as a worker trains; the median of the pairs is printed.

    python -m tests.bench.allocator
    python -m tests.bench.allocator --pairs 5
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
from typing import Any

PROGRAMS: dict[str, tuple[str, int, int]] = {  # network of network_step, or a width; members; steps of a turn
    "MLP, 32 of 256 units": ("256", 32, 6),
    "MLP, 64 of 1024 units": ("1024", 64, 3),
    "32 transformers": ("transformer", 32, 4),
    "32 ResNets, group norm": ("resnet, group norm", 32, 4),
}
TURNS = 3
HOWS = ("as it is", "set")


def measured(program: str, how: str) -> dict[str, float]:
    """Returns processor time of a step in ms, page faults of a step, and the process's most memory in MiB."""
    if how == "set":
        os.environ["THP_MEM_ALLOC_ENABLE"] = "1"
        from memsweep.run.worker import allocator

        assert allocator.keep_freed(), "glibc is needed, without settings in the environment"
    import torch

    from memsweep.engine.train import trainer
    from memsweep.spec.config import TrialConfig
    from tests.bench.network_step import BASE, NETWORKS

    torch.set_num_threads(1)
    network, members, steps = PROGRAMS[program]
    fields = {"model.width": int(network)} if network.isdecimal() else NETWORKS[network]
    trials = [TrialConfig.of({**BASE, **fields, "seed": seed}) for seed in range(members)]
    composed = trainer.compose(trials, "cpu", mode="fused")
    state = trainer.init(composed, trials)
    turns = []
    for _ in range(2 + TURNS):  # two warm up
        before = resource.getrusage(resource.RUSAGE_SELF)
        state, _measured = trainer.advance(composed, state, steps)
        after = resource.getrusage(resource.RUSAGE_SELF)
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        turns.append((seconds / steps * 1e3, (after.ru_minflt - before.ru_minflt) / steps))
    milliseconds, faults = (statistics.median(values) for values in zip(*turns[2:], strict=True))
    return {"milliseconds": milliseconds, "faults": faults, "mebibytes": after.ru_maxrss / 1024}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=3, metavar="N")
    parser.add_argument("--alone", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        print(json.dumps(measured(*options.alone)))
        return
    from tests.bench import machine

    print(machine.header())
    print("fused step: ms of a processor, page faults, most MiB of the process; as it is -> set")
    rows = []
    for program in PROGRAMS:
        runs: dict[str, list[dict[str, float]]] = {how: [] for how in HOWS}
        for _ in range(options.pairs):
            for how in HOWS:
                runs[how].append(_in_new_process(program, how))
        medians: dict[str, dict[str, float]] = {
            how: {key: statistics.median(run[key] for run in runs[how]) for key in runs[how][0]} for how in HOWS
        }
        before, after = (medians[how] for how in HOWS)
        columns = "  ".join(f"{before[key]:8,.0f} -> {after[key]:8,.0f}" for key in before)
        print(f"{program:<24}{columns}   {before['milliseconds'] / after['milliseconds']:.2f}x", flush=True)
        rows.append({"program": program, **medians})
    print(json.dumps({"benchmark": "allocator", "machine": machine.describe(), "rows": rows}))


def _in_new_process(program: str, how: str) -> dict[str, float]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "THP_MEM_ALLOC_ENABLE": "0"}
    command = [sys.executable, "-m", "tests.bench.allocator", "--alone", program, how]
    output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    result: dict[str, Any] = json.loads(output.splitlines()[-1])
    return result


if __name__ == "__main__":
    main()
