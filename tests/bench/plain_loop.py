"""How fast is work A in a plain PyTorch loop, one trial after another on each core, orchestrating and storing nothing?

It is the baseline that every orchestrator must beat, written as a practitioner would and sharing no code with memsweep.

    python -m tests.bench.plain_loop --trials 50 --processes 2
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.bench import machine

NOISE_FRACTIONS = [round(float(fraction), 12) for fraction in np.linspace(0, 0.95, 20)]
WEIGHT_DECAYS = [0.0, *(float(f"{decay:.12g}") for decay in np.logspace(-6, -2, 9))]
SEEDS = list(range(5))
SETTINGS = len(NOISE_FRACTIONS) * len(WEIGHT_DECAYS)

TRAIN_COUNT, VALIDATION_COUNT, CLASSES = 1000, 500, 10
BATCH_SIZE, EPOCHS = 100, 30


class Trial(NamedTuple):
    noise_fraction: float
    weight_decay: float
    seed: int


def sample(count: int) -> list[Trial]:
    """Trials spread over work A: any multiple of 25 holds five noise fractions and five seeds equally often."""
    decays = [WEIGHT_DECAYS[i] for i in (5, 9, 1, 7, 3, 0, 8, 2, 6, 4)]
    fractions = [NOISE_FRACTIONS[i] for i in (0, 4, 9, 14, 19)]
    trials = [Trial(fraction, decay, seed) for decay in decays for seed in SEEDS for fraction in fractions]
    if count > len(trials):
        raise ValueError(f"{count} trials asked for, the sample holds {len(trials)}")
    return trials[:count]


@cache
def images() -> tuple[Tensor, Tensor]:
    """All 1,797 digits: inputs / 16 and labels."""
    from sklearn.datasets import load_digits  # here: 2 s that a Ray worker handed the images need not spend

    inputs, labels = load_digits(return_X_y=True)
    return torch.tensor(inputs / 16, dtype=torch.float32), torch.tensor(labels)


def epochs(trial: Trial, digits: tuple[Tensor, Tensor]) -> Iterator[dict[str, int]]:
    """Train one trial and yield its counts after every epoch."""
    inputs, labels = digits
    generator = torch.Generator().manual_seed(trial.seed)
    order = torch.randperm(len(labels), generator=generator)
    train, validation = order[:TRAIN_COUNT], order[TRAIN_COUNT : TRAIN_COUNT + VALIDATION_COUNT]
    x, true, x_validation, y_validation = inputs[train], labels[train], inputs[validation], labels[validation]
    is_redrawn = torch.rand(TRAIN_COUNT, generator=generator) < trial.noise_fraction
    y = torch.where(is_redrawn, torch.randint(CLASSES, (TRAIN_COUNT,), generator=generator), true)

    torch.manual_seed(trial.seed)
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, CLASSES))
    # fused: the fastest of torch's three implementations here, by 10 to 15 % of the whole trial
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=trial.weight_decay, fused=True)
    for _ in range(EPOCHS):
        model.train()
        order = torch.randperm(TRAIN_COUNT, generator=generator)
        for x_batch, y_batch in zip(torch.split(x[order], BATCH_SIZE), torch.split(y[order], BATCH_SIZE), strict=True):
            optimizer.zero_grad()
            F.cross_entropy(model(x_batch), y_batch).backward()
            optimizer.step()
        model.eval()
        with torch.inference_mode():
            is_fitted = model(x).argmax(1) == y
            is_right = model(x_validation).argmax(1) == y_validation
        yield {
            "train_correct": int(is_fitted.sum()),
            "validation_correct": int(is_right.sum()),
            "memorized": int((is_fitted & (y != true)).sum()),
        }


def train(noise_fraction: float, weight_decay: float, seed: int) -> dict[str, Any]:
    """One whole trial: its last counts, and the curves of all epochs."""
    curve = list(epochs(Trial(noise_fraction, weight_decay, seed), images()))
    return {**curve[-1], "curves": {name: [row[name] for row in curve] for name in curve[0]}}


def measure(trials: list[Trial], processes: int) -> tuple[float, list[dict[str, Any]]]:
    """Seconds to train these trials in so many one-thread processes, all of them warm at the start, and the results."""
    context = multiprocessing.get_context("spawn")
    all_warm = context.Barrier(processes + 1)
    with context.Pool(processes, _warm_up, (all_warm,)) as pool:
        all_warm.wait(timeout=300)
        began = time.perf_counter()
        results = pool.starmap(train, trials, chunksize=1)
        return time.perf_counter() - began, results


def _warm_up(all_warm: threading.Barrier) -> None:
    torch.set_num_threads(1)
    train(0.0, 0.0, 0)
    all_warm.wait(timeout=300)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=25, metavar="K", help="trials for each process")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, metavar="C")
    options = parser.parse_args()
    print(machine.header())
    trials_per_second = {}
    for processes in sorted({1, options.processes}):
        trials = (sample(25) * math.ceil(options.trials * processes / 25))[: options.trials * processes]
        seconds, _ = measure(trials, processes)
        rate = trials_per_second[processes] = len(trials) / seconds
        print(
            f"{processes} processes: {len(trials)} trials in {seconds:.1f} s, {rate:.2f} trials/s, "
            f"{rate / processes:.2f} a core"
        )
    print(
        json.dumps({"benchmark": "plain_loop", "machine": machine.describe(), "trials_per_second": trials_per_second})
    )


if __name__ == "__main__":
    main()
