"""What does a step of a convolutional member cost: plain torch alone, members in turn, members in one program?

The network is the small AlexNet of Arpit et al. (2017), scaled by C / 200: crop of 2 pixels at each side, twice
[C 5x5 convolutions, batch normalization, ReLU, 3x3 maxima at stride 2], then dense layers of 384 and 192 with the same,
and the read-out. The paper states neither padding nor stride: convolutions keep the size here. Batch 100, SGD with
momentum, random labels on random images; each contender's step is all of it: order, gather, forward, backward, update.
In turns in one call, on so many threads; the limit is the products' time at the speed of a large product there.

    python -m tests.bench.convolution --channels 25 50
    python -m tests.bench.convolution --channels 200 --members 2 --device cuda
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from itertools import product
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from memsweep.engine.train import trainer
from memsweep.spec.config import TrialConfig
from memsweep.spec.options import FAMILIES
from tests.bench import machine

CLASSES, BATCH, EXAMPLES = 10, 100, 1000
RATE, MOMENTUM = 0.01, 0.9
CROP, KERNEL = 2, 5
FULL_WIDTH, DENSE = 200, (384, 192)
IMAGES = {784: (1, 28, 28), 3072: (3, 32, 32)}
MODES = ("serial", "fused")
ROUNDS = 3

Run = Callable[[int], None]
"""Trains for so many steps."""


class Shape(NamedTuple):
    channels: int  # C
    dim: int  # D, a key of IMAGES
    members: int


class Net(nn.Module):
    """images: [B, *IMAGES[D]] -> logits [B, K]."""

    def __init__(self, shape: Shape):
        super().__init__()
        c = shape.channels
        dense = [units * c // FULL_WIDTH for units in DENSE]
        self.features = nn.Sequential(
            *convolution(IMAGES[shape.dim][0], c),
            *convolution(c, c),
            nn.Flatten(),
        )
        with torch.no_grad():
            flat = self.features(cropped(torch.zeros(2, *IMAGES[shape.dim]))).shape[1]
        sizes = (flat, *dense)
        layers = [
            layer
            for i, o in zip(sizes, dense, strict=False)
            for layer in (nn.Linear(i, o), nn.BatchNorm1d(o), nn.ReLU())
        ]
        self.head = nn.Sequential(*layers, nn.Linear(dense[-1], CLASSES))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(cropped(images)))
        return logits


def convolution(i: int, o: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(i, o, KERNEL, padding=KERNEL // 2), nn.BatchNorm2d(o), nn.ReLU(), nn.MaxPool2d(3, stride=2)


def cropped(images: Tensor) -> Tensor:
    return images[..., CROP:-CROP, CROP:-CROP]


def plain_torch(shape: Shape, device: str) -> Run:
    """One network alone, as in any tutorial; its step is what each member would cost."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(EXAMPLES, *IMAGES[shape.dim], generator=generator).to(device)
    y = torch.randint(CLASSES, (EXAMPLES,), generator=generator).to(device)
    model = Net(shape).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=MOMENTUM, fused=True)

    def run(steps: int) -> None:
        order = torch.empty(0, dtype=torch.int64, device=device)
        for _ in range(steps):
            if not len(order):
                order = torch.randperm(EXAMPLES, device=device)
            batch, order = order[:BATCH], order[BATCH:]
            optimizer.zero_grad()
            F.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()

    return run


def memsweep(shape: Shape, device: str, mode: str, compiled: bool) -> Run:
    """The engine's own `advance`; nothing is due for measurement then."""
    base = {
        "data.task": "gaussian",
        "data.input_dim": shape.dim,
        "data.label_scheme": "random",
        "data.classes": CLASSES,
        "data.examples": EXAMPLES,
        "data.validation_examples": 0,
        "model.family": "cnn",
        "model.width": shape.channels,
        "optimizer.batch_size": BATCH,
        "optimizer.learning_rate": RATE,
        "optimizer.momentum": MOMENTUM,
        "stop.steps": 10**9,
        "stop.measure_steps": 10**9,
        "seeds.inputs": 0,
    }
    trials = [TrialConfig.of({**base, "seed": seed}) for seed in range(shape.members)]
    how: dict[str, Any] = {"compiled": compiled, "mode": mode}
    program = trainer.compose(trials, device, **how)
    states = [trainer.init(program, trials)]

    def run(steps: int) -> None:
        states[0], _measured = trainer.advance(program, states[0], steps)

    return run


def contenders(shape: Shape, device: str, compiled: bool) -> dict[str, Run]:
    runs = {"plain": plain_torch(shape, device)}
    if "cnn" in FAMILIES:
        runs |= {mode: memsweep(shape, device, mode, False) for mode in MODES}
        if compiled:
            runs["fused, compiled"] = memsweep(shape, device, "fused", True)
    return runs


def measure(shape: Shape, options: argparse.Namespace) -> dict[str, float]:
    """Median milliseconds of a member step, by contender."""
    runs = contenders(shape, options.device, options.compiled)
    members = {name: 1 if name == "plain" else shape.members for name in runs}
    for run in runs.values():
        run(2)  # compiles, warms up
        synchronize(options.device)
    turns: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            began = time.perf_counter()
            run(options.steps)
            synchronize(options.device)
            turns[name].append((time.perf_counter() - began) / options.steps / members[name] * 1e3)
    return {name: statistics.median(values) for name, values in turns.items()}


def synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def operations(shape: Shape) -> int:
    """Multiplications and additions of one member step, in convolutions and dense layers, both ways."""
    net = Net(shape)
    with FlopCounterMode(display=False) as counter:
        net(torch.zeros(BATCH, *IMAGES[shape.dim])).sum().backward()
    return int(counter.get_total_flops())


def peak(device: str) -> float:
    """Operations a second in a product of 2048 by 2048."""
    a, b = (torch.randn(2048, 2048, device=device) for _ in range(2))
    seconds = []
    for _ in range(8):
        synchronize(device)
        began = time.perf_counter()
        a @ b
        synchronize(device)
        seconds.append(time.perf_counter() - began)
    return float(2 * 2048**3 / min(seconds))


def main() -> None:
    options = parsed()
    torch.set_num_threads(options.threads)
    device = torch.cuda.get_device_name() if options.device == "cuda" else f"cpu, {options.threads} threads"
    per_second = peak(options.device)
    print(machine.header())
    print(f"{device}: {per_second / 1e9:.0f} GFLOP/s in a product of 2048; medians of {ROUNDS} x {options.steps} steps")
    if "cnn" not in FAMILIES:
        print("memsweep has no family cnn: the plain loop alone")
    rows: list[dict[str, Any]] = []
    for dim, channels, members in product(options.dims, options.channels, options.members):
        shape = Shape(channels, dim, members)
        limit = operations(shape) / per_second * 1e3
        found = measure(shape, options)
        if not rows:
            print("ms a member step; the share of the arithmetic limit; plain over each")
            print(f"{'images':>8}{'C':>5}{'M':>4}" + "".join(f"{name:>17}" for name in (*found, "arithmetic")))
        rows.append({**shape._asdict(), "milliseconds": found, "arithmetic_milliseconds": limit})
        numbers = "".join(f"{value:17.2f}" for value in (*found.values(), limit))
        ratios = "".join(f"  {name} {limit / ms:.0%} {found['plain'] / ms:.2f}x" for name, ms in found.items())
        print(f"{'x'.join(map(str, IMAGES[dim])):>8}{channels:5}{members:4}{numbers} {ratios}", flush=True)
    told = {
        "benchmark": "convolution",
        "machine": machine.describe(),
        "device": device,
        "repeats": ROUNDS,
        "operations_per_second": per_second,
        "rows": rows,
    }
    print(json.dumps(told))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channels", type=int, nargs="+", default=[25, 50, 100], metavar="C", help="200 is full size")
    parser.add_argument("--dims", type=int, nargs="+", default=list(IMAGES), choices=IMAGES, metavar="D")
    parser.add_argument("--members", type=int, nargs="+", default=[4], metavar="M")
    parser.add_argument("--steps", type=int, default=5, metavar="S")
    parser.add_argument("--threads", type=int, default=1, metavar="T")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--compiled", action="store_true", help="the fused program compiled too")
    return parser.parse_args()


if __name__ == "__main__":
    main()
