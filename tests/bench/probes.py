"""What does each probe cost, as a share of the training of the members that it asks?

For each probe, members of a default sweep that asks for it: trained to their end, then asked once, in one call, on one
thread. A trial's share is this times how often its sweep asks (once, or at its probe_steps and at the end).

    python -m tests.bench.probes --members 8
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from memsweep.engine.train import trainer
from memsweep.run.packing import program_key
from memsweep.run.worker import probes
from memsweep.spec.config import TrialConfig
from memsweep.spec.options import PROBES, REPEATED_PROBES
from memsweep.spec.sweep_files import load_sweep
from tests.bench import machine

SWEEPS = Path(__file__).parent.parent.parent / "sweeps"
ANYWHERE = ("examples",)
"""Probes that no default sweep asks for, or any could."""


def main() -> None:
    options = _options()
    torch.set_num_threads(1)
    print(machine.header())
    print(f"{'probe':18}{'sweep':22}{'members':>8}{'training, s':>13}{'once, s':>9}{'share':>8}{'times':>7}")
    found = []
    for probe in PROBES:
        sweep, trials = _asked(probe, options.members)
        if not trials:
            print(f"{probe:18}no default sweep asks for it")
            continue
        row = {"probe": probe, "sweep": sweep, **_measured(probe, trials)}
        found.append(row)
        share = row["probe_seconds"] / row["train_seconds"]
        print(
            f"{probe:18}{sweep:22}{len(trials):8}{row['train_seconds']:13.2f}{row['probe_seconds']:9.2f}"
            f"{share:8.1%}{row['times']:7}"
        )
    print(json.dumps({"benchmark": "probes", "machine": machine.describe(), "seconds": found}))


def _asked(probe: str, count: int) -> tuple[str, list[TrialConfig]]:
    """A sweep that asks for it, and trials of it that make one program, each a seed of its first such setting."""
    for path in sorted(SWEEPS.glob("[a-z]*.py")):
        trials = load_sweep(str(path)).trials
        asked = [trial for trial in trials if probe in trial.probes or (probe in ANYWHERE and not trial.probes)]
        if asked:
            first = asked[0]
            alike = [trial for trial in asked if program_key(trial) == program_key(first)]
            return path.stem, alike[:count]
    return "", []


def _measured(probe: str, trials: Sequence[TrialConfig]) -> dict[str, Any]:
    only = [trial.with_fields({"probes": (probe,), "probe_steps": ()}) for trial in trials]
    program = trainer.compose(only)
    state = trainer.init(program, only)
    begun = time.perf_counter()
    while True:
        state, measured = trainer.advance(program, state, trainer.steps_to_measurement(state))
        if not measured.active.all():
            break
    trained = time.perf_counter()
    probes.rows(program, state, range(len(only)))
    times = len(trials[0].probe_steps) + 1 if probe in REPEATED_PROBES else 1
    return {
        "members": len(only),
        "train_seconds": trained - begun,
        "probe_seconds": time.perf_counter() - trained,
        "times": times,
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=8)
    return parser.parse_args()


if __name__ == "__main__":
    main()
