"""What do recorded operations save of an uncompiled step, and of a measurement, beside the same pack as it is?

One core, one thread, both in turn from the same state; medians of the rounds. The weights must be equal to the bit.

    python -m tests.bench.recordings
    python -m tests.bench.recordings --rounds 40
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from unittest.mock import patch

import torch

from memsweep.engine.train import recordings, trainer
from memsweep.engine.train.program import Program
from memsweep.engine.train.state import State, equal_bits
from memsweep.run.worker import allocator
from memsweep.spec.config import TrialConfig
from tests.bench import machine
from tests.bench.network_step import BASE, NETWORKS

STEPS = 10
PACKS: dict[str, tuple[dict[str, object], int]] = {
    "8 MLPs of 32 units": ({"model.width": 32}, 8),
    "64 MLPs of 32 units": ({"model.width": 32}, 64),
    "64 MLPs of 128 units": ({"model.width": 128}, 64),
    "8 MLPs of 512 units": ({"model.width": 512}, 8),
    "32 transformers": (NETWORKS["transformer"], 32),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20, metavar="N")
    rounds = parser.parse_args().rounds
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    allocator.keep_freed()
    recordings.PATIENCE_SECONDS = 0.0
    print(f"{machine.header()}\nms of a step, then of a measurement; as it is -> recorded", flush=True)
    rows = []
    for pack, (fields, members) in PACKS.items():
        fields = {**BASE, "stop.measure_steps": STEPS, **fields}
        trials = [TrialConfig.of({**fields, "seed": seed}) for seed in range(members)]
        program = trainer.compose(trials)
        ways = {False: Way(program, trials), True: Way(program, trials)}
        for number in range(rounds + 3):  # three warm up, and record
            for is_recorded in (False, True) if number % 2 else (True, False):
                ways[is_recorded].advance(program, is_recorded, is_warm=number >= 3)
        assert equal_bits(ways[False].state.parameters, ways[True].state.parameters)
        steps, measurements = ([ways[way].medians()[part] for way in (False, True)] for part in (0, 1))
        columns = "  ".join(f"{was:8.2f} -> {now:8.2f} {was / now:6.2f}x" for was, now in (steps, measurements))
        print(f"{pack:<24}{columns}", flush=True)
        rows.append({"pack": pack, "step": steps, "measurement": measurements})
    print(json.dumps({"benchmark": "recordings", "machine": machine.describe(), "rows": rows}))


class Way:
    """A pack in training, and its times in ms."""

    def __init__(self, program: Program, trials: list[TrialConfig]):
        self.state: State = trainer.init(program, trials)
        self.steps: list[float] = []
        self.measurements: list[float] = []

    def advance(self, program: Program, is_recorded: bool, *, is_warm: bool) -> None:
        clock = trainer.Clock()
        with patch.object(recordings, "are_possible", lambda _: is_recorded):
            self.state, _ = trainer.advance(program, self.state, STEPS, clock)
        if is_warm:
            self.steps.append(clock.seconds["train"] / STEPS * 1e3)
            self.measurements.append(clock.seconds["evaluate"] * 1e3)

    def medians(self) -> tuple[float, float]:
        return statistics.median(self.steps), statistics.median(self.measurements)


if __name__ == "__main__":
    main()
