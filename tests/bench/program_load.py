"""How long does a new worker wait for a compiled program that the disk has: loaded, against traced again by torch?

Work A's program (64 inputs, two layers of 32, 64 members), in fresh processes, the two ways in turn, on one thread.
A process imports torch and memsweep's engine and builds the pack; then the clock runs from the request for one training
step until it is done, and from the request for the first measurement until that is done. Traced: the same build without
its files, torch's own cache of kernels warm, which is all that earlier versions had.

    python -m tests.bench.program_load
    python -m tests.bench.program_load --processes 3
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

WAYS = ("traced", "loaded")
MEMBERS = 64
TARGET_SECONDS = 0.3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=10, metavar="N", help="fresh processes of each way")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)  # in a fresh process
    options = parser.parse_args()
    if options.way:
        print(json.dumps(measured(options.way)))
        return
    from tests.bench import machine

    for way in WAYS:  # fill the caches
        in_a_fresh_process(way)
    rows: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for _ in range(options.processes):
        for way in WAYS:
            rows[way].append(in_a_fresh_process(way))
    print(machine.header())
    print(f"\n{options.processes} processes of each way: median seconds (least to most)\n")
    print("| way | first request to first step | and its first measurement | torch's compiler imported |")
    print("|---|---|---|---|")
    for way, values in rows.items():
        columns = [[row[name] for row in values] for name in ("step", "measurement")]
        texts = [f"{statistics.median(c):.3f} ({min(c):.3f} to {max(c):.3f})" for c in columns]
        print(f"| {way} | {' | '.join(texts)} | {'yes' if values[0]['has_compiler'] else 'no'} |")
    traced, loaded = (statistics.median(row["step"] for row in rows[way]) for way in WAYS)
    verdict = "met" if loaded < TARGET_SECONDS else "missed"
    print(f"\nloaded is {traced / loaded:.1f} times faster; under {TARGET_SECONDS} s: {verdict}")
    summary = {"machine": machine.describe(), "target_seconds": TARGET_SECONDS, "rows": rows}
    print(f"\n{json.dumps({'benchmark': 'program_load', **summary})}")


def in_a_fresh_process(way: str) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.bench.program_load", "--way", way]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    row: dict[str, float] = json.loads(output.splitlines()[-1])
    return row


def measured(way: str) -> dict[str, float]:
    """Seconds of the first step and of the first measurement of a process."""
    import torch

    from memsweep.engine.train import evaluation, program_files, trainer
    from memsweep.spec.config import TrialConfig

    torch.set_num_threads(1)  # as in a worker
    if way == "traced":
        program_files.name_of = lambda *_: None
    fields = {"data.task": "digits", "data.examples": 1000, "model.width": 32, "model.depth": 2}
    fields |= {"optimizer.batch_size": 100, "optimizer.momentum": 0.9, "regularization.weight_decay": 1e-4}
    trials = [TrialConfig.of({**fields, "seeds.order": seed}) for seed in range(MEMBERS)]
    program = trainer.compose(trials, compiled=True)
    state = trainer.init(program, trials)
    begun = time.perf_counter()
    state, _ = trainer.train(program, state, 1)
    stepped = time.perf_counter()
    evaluation.first_answers(program, state)
    ended = time.perf_counter()
    return {
        "step": stepped - begun,
        "measurement": ended - stepped,
        "has_compiler": "torch._inductor.compile_fx" in sys.modules,
    }


if __name__ == "__main__":
    main()
