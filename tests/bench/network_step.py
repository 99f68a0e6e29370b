"""What does a member step of each ready-made network cost, beside the same network alone in plain torch?

Each contender's step is all of it: order, gather, forward, backward, update (SGD with momentum), in turns in one call,
on one core and thread. `plain` is the network's module in the loop of any tutorial, with torch.optim's fused SGD; `own`
rows are networks of a user's file, with nn.Dropout. The ratio is plain over the faster of members in turn and fused,
which is what calibration chooses; below 0.97 it is marked. The allocator is set as in a worker, for all contenders.

    python -m tests.bench.network_step
    python -m tests.bench.network_step --networks resnet transformer --members 16
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

if __name__ == "__main__":  # before torch starts threads
    if "cuda" not in sys.argv:  # there, torch goes backwards in a thread of its own
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    os.environ |= {"OMP_NUM_THREADS": "1", "THP_MEM_ALLOC_ENABLE": "1"}

import torch
import torch.nn.functional as F
from torch.optim import swa_utils

from memsweep.data import tasks
from memsweep.engine.nn import models
from memsweep.engine.train import trainer
from memsweep.engine.train.program import MODES
from memsweep.run.worker import allocator
from memsweep.spec.config import TrialConfig
from tests.bench import machine
from tests.bench.convolution import synchronize

BATCH, EXAMPLES, CLASSES = 100, 1000, 10
RATE, MOMENTUM = 0.01, 0.9
ROUNDS, SECONDS = 3, 0.6
"""Rounds of all contenders, and seconds of each contender in a round, about; at least one step."""
LEAST = 0.97
"""Smallest ratio of plain torch's time to ours."""

BASE: dict[str, Any] = {
    **{"data.task": "gaussian", "data.label_scheme": "random", "data.classes": CLASSES, "data.examples": EXAMPLES},
    **{"data.input_dim": 64, "data.validation_examples": 0, "data.test_examples": 0, "seeds.inputs": 0},
    **{"optimizer.batch_size": BATCH, "optimizer.learning_rate": RATE, "optimizer.momentum": MOMENTUM},
    **{"stop.steps": 10**9, "stop.measure_steps": 10**9},
}
GPT: dict[str, Any] = {"model.family": "transformer", "data.sequence_length": 8, "model.heads": 2}
NETWORKS: dict[str, dict[str, Any]] = {
    "layer norm": {"model.norm": "layer"},
    "batch norm": {"model.norm": "batch"},
    "random features": {"model.frozen_layers": 1, "model.depth": 1, "model.width": 256},
    "mup": {"model.parametrization": "mup", "model.width": 64},
    "averaged": {"optimizer.averaging": 0.99},
    "resnet": {"model.family": "resnet", "model.depth": 1, "model.width": 8, "model.norm": "batch"},
    "resnet, group norm": {"model.family": "resnet", "model.depth": 1, "model.width": 8, "model.norm": "group"},
    "transformer": GPT,
    "transformer, 64 units": {**GPT, "model.width": 64},
    "own resnet": {"model.family": "tests.own_networks:ResNet", "model.width": 8},
    "own transformer": {"model.family": "tests.own_networks:Transformer"},
}

Run = Callable[[int], None]
"""Trains for so many steps."""


def plain_torch(trial: TrialConfig, device: str) -> Run:
    """The network alone; its step is what each member would cost."""
    data, model = tasks.load(trial), models.build(trial, *tasks.shape(trial)).train().to(device)
    x, y = torch.tensor(data.inputs).to(device), torch.tensor(data.labels).to(device)
    trained = models.trained(model).values()
    optimizer = torch.optim.SGD(trained, lr=RATE, momentum=MOMENTUM, fused=True)
    averaged = None
    if decay := trial.optimizer.averaging:
        averaged = swa_utils.AveragedModel(model, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(decay))

    def run(steps: int) -> None:
        order = torch.empty(0, dtype=torch.int64, device=device)
        for _ in range(steps):
            if not len(order):
                order = torch.randperm(EXAMPLES, device=device)
            batch, order = order[:BATCH], order[BATCH:]
            optimizer.zero_grad()
            F.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
            if averaged:
                averaged.update_parameters(model)

    return run


def memsweep(trials: list[TrialConfig], device: str, mode: str) -> Run:
    """The engine's own `advance`; nothing is due for measurement then."""
    program = trainer.compose(trials, device, mode=mode)
    states = [trainer.init(program, trials)]

    def run(steps: int) -> None:
        states[0], _measured = trainer.advance(program, states[0], steps)

    return run


def measure(
    fields: dict[str, Any], members: int, device: str, plain: Callable[[TrialConfig, str], Run] = plain_torch
) -> dict[str, float]:
    """Median milliseconds of a member step, by contender."""
    trials = [TrialConfig.of({**BASE, **fields, "seed": seed}) for seed in range(members)]
    runs = {"plain": plain(trials[0], device)}
    runs |= {mode: memsweep(trials if mode == "fused" else trials[:2], device, mode) for mode in MODES}
    counts = {"plain": 1, "fused": members, "serial": min(2, members)}
    steps: dict[str, int] = {}
    for name, run in runs.items():
        run(1)  # warms up
        steps[name] = max(1, int(SECONDS / _seconds(run, 1, device)))
    turns: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            turns[name].append(_seconds(run, steps[name], device) / steps[name] / counts[name] * 1e3)
    return {name: statistics.median(values) for name, values in turns.items()}


def row(name: str, times: dict[str, float]) -> dict[str, Any]:
    """Prints a row of the table; returns it with the ratio of plain torch's time to the faster of ours."""
    best = min(MODES, key=lambda mode: times[mode])
    ratio = times["plain"] / times[best]
    mark = f"   below {LEAST}x" if ratio < LEAST else ""
    columns = "".join(f"{times[contender]:10.3f}" for contender in ("plain", *MODES))
    print(f"{name:<24}{columns}   {best} {ratio:.2f}x{mark}", flush=True)
    return {"name": name, "milliseconds": times, "ratio": ratio}


def _seconds(run: Run, steps: int, device: str) -> float:
    synchronize(device)
    began = time.perf_counter()
    run(steps)
    synchronize(device)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS, metavar="NETWORK")
    parser.add_argument("--members", type=int, default=32, metavar="M", help="of the fused pack")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    allocator.keep_freed()
    print(machine.header())
    print(f"ms a member step, batch {BATCH}, {options.members} members fused; plain over the faster of ours")
    print(f"{'network':<24}" + "".join(f"{name:>10}" for name in ("plain", *MODES)))
    rows = [row(name, measure(NETWORKS[name], options.members, options.device)) for name in options.networks]
    report = {"benchmark": "network_step", "machine": machine.describe(), "device": options.device, "rows": rows}
    print(json.dumps(report))


if __name__ == "__main__":
    main()
