"""What does a step of a recurrent member cost: alone in plain torch, by the library's kernel, lifted, and in memsweep?

The task is to name the class of a sequence of random numbers, of FEATURES numbers a step, at its last step. Each
contender's step is all of it: order, gather, forward through time, backward, clipping, update (AdamW), in turns in one
call on one core and thread. `plain` is the cell as one would write it in Python, one product of inputs for all steps
and one of the state a step, with `torch.optim`'s fused AdamW; `library` is torch.nn's layer, where it has one; `lifted`
is the plain cell under vmap, 64 members, with SGD. The limit is the products' time at the speed of a large one there.

    python -m tests.bench.sequence_step --cells lstm pru_a --steps 20 100 --widths 16 64
    python -m tests.bench.sequence_step --cells lstm --members 512 --device cuda
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from itertools import product
from typing import Any, NamedTuple

if __name__ == "__main__":  # before torch starts threads
    if "cuda" not in sys.argv:  # there, torch goes backwards in a thread of its own
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    os.environ |= {"OMP_NUM_THREADS": "1"}

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap

from memsweep.engine.nn.cells import KERNELS, KINDS
from memsweep.engine.train import trainer
from memsweep.run.packing import program_name
from memsweep.run.policy.execution_plan import choose
from memsweep.spec.config import TrialConfig
from memsweep.spec.options import CELLS
from tests.bench import machine
from tests.bench.convolution import peak, synchronize

CLASSES, BATCH, EXAMPLES, FEATURES = 4, 32, 256, 8
RATE, CLIP = 1e-3, 1.0
LIFTED_MEMBERS = 64
ROUNDS = 3
SECONDS = 0.6  # of each contender in each round, about; at least one step

Run = Callable[[int], None]
"""Trains for so many steps."""


class Shape(NamedTuple):
    cell: str
    steps: int  # T
    width: int  # H
    members: int  # 0: as memsweep chooses


class Plain(nn.Module):
    """A network of one layer as one would write it, for cells without `+plus`.  forward: [B, T m] -> [B, K]."""

    def __init__(self, shape: Shape):
        super().__init__()
        kind, width = KINDS[shape.cell], shape.width
        self.cell, self.steps, self.width, self.recurrent_rows = shape.cell, shape.steps, width, kind.recurrent * width
        self.inputs = nn.Linear(FEATURES, kind.blocks * width)
        if self.recurrent_rows:
            self.state = nn.Linear(width, self.recurrent_rows, bias=False)
        self.readout = nn.Linear(width, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        read = self.inputs(inputs.view(-1, self.steps, FEATURES))
        h = c = read.new_zeros(len(read), self.width)
        for x in read.unbind(1):
            fed = self.state(h) if self.recurrent_rows else None
            h, c = self.step(x, fed, h, c)
        logits: Tensor = self.readout(h)
        return logits

    def step(self, x: Tensor, fed: Tensor | None, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        gates, width = self.recurrent_rows, self.width
        if self.cell == "gru":
            assert fed is not None
            r, z = torch.sigmoid(x[:, : 2 * width] + fed[:, : 2 * width]).chunk(2, 1)
            n = torch.tanh(x[:, 2 * width :] + r * fed[:, 2 * width :])
            return n + z * (h - n), c
        total = (
            x if fed is None else x + fed if gates == x.shape[1] else torch.cat([x[:, :gates] + fed, x[:, gates:]], 1)
        )
        if self.cell in ("rnn", "irnn"):
            return (torch.tanh if self.cell == "rnn" else torch.relu)(total), c
        if self.cell == "ugrnn":
            g, new = torch.sigmoid(total[:, :width]), torch.tanh(total[:, width:])
            return new + g * (h - new), c
        if self.cell == "pru_d":
            i, f = torch.sigmoid(total[:, : 2 * width]).chunk(2, 1)
            return f * h + i * torch.tanh(total[:, 2 * width :]), c
        i, f, o = torch.sigmoid(total[:, : 3 * width]).chunk(3, 1)
        c = f * c + i * torch.tanh(total[:, 3 * width :])
        return o * torch.tanh(c), c


class Library(nn.Module):
    """torch.nn's own layer."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.steps = shape.steps
        self.layer = KERNELS[shape.cell](FEATURES, shape.width, batch_first=True)
        self.readout = nn.Linear(shape.width, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.readout(self.layer(inputs.view(-1, self.steps, FEATURES))[0][:, -1])
        return logits


def data(shape: Shape, device: str) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(EXAMPLES, shape.steps * FEATURES, generator=generator)
    return inputs.to(device), torch.randint(CLASSES, (EXAMPLES,), generator=generator).to(device)


def alone(model: nn.Module, shape: Shape, device: str) -> Run:
    (x, y), model = data(shape, device), model.to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0, fused=True)

    def run(steps: int) -> None:
        order = torch.empty(0, dtype=torch.int64, device=device)
        for _ in range(steps):
            if not len(order):
                order = torch.randperm(EXAMPLES, device=device)
            batch, order = order[:BATCH], order[BATCH:]
            optimizer.zero_grad()
            F.cross_entropy(model(x[batch]), y[batch]).backward()
            nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()

    return run


def lifted(shape: Shape, device: str) -> Run:
    """The plain cell under vmap, as a reader of torch.func's documentation would write it; plain SGD."""
    x, y = data(shape, device)
    models = [Plain(shape).to(device) for _ in range(LIFTED_MEMBERS)]
    parameters = {name: value.detach() for name, value in stack_module_state(models)[0].items()}

    def loss(own: dict[str, Tensor], inputs: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(models[0], own, (inputs,)), labels)

    gradients = vmap(grad(loss))

    def run(steps: int) -> None:
        for _ in range(steps):
            batch = torch.rand(LIFTED_MEMBERS, EXAMPLES, device=device).argsort(1)[:, :BATCH]
            for name, gradient in gradients(parameters, x[batch], y[batch]).items():
                parameters[name] -= RATE * gradient

    return run


def trials(shape: Shape, count: int) -> list[TrialConfig]:
    base = {
        "data.task": "gaussian",
        "data.input_dim": shape.steps * FEATURES,
        "data.sequence_length": shape.steps,
        "data.label_scheme": "random",
        "data.classes": CLASSES,
        "data.examples": EXAMPLES,
        "data.validation_examples": 0,
        "model.family": "recurrent",
        "model.cell": shape.cell,
        "model.width": shape.width,
        "model.depth": 1,
        "optimizer.name": "adamw",
        "optimizer.batch_size": BATCH,
        "optimizer.learning_rate": RATE,
        "optimizer.clip": CLIP,
        "stop.steps": 10**9,
        "stop.measure_steps": 10**9,
        "seeds.inputs": 0,
    }
    return [TrialConfig.of({**base, "seed": seed}) for seed in range(count)]


def memsweep(shape: Shape, device: str, mode: str, members: int) -> Run:
    """The engine's own `advance`; nothing is due for measurement then."""
    own = trials(shape, members)
    program = trainer.compose(own, device, mode=mode)
    states = [trainer.init(program, own)]

    def run(steps: int) -> None:
        states[0], _measured = trainer.advance(program, states[0], steps)

    return run


def chosen(shape: Shape, device: str) -> tuple[str, int]:
    """Mode and members that a launch takes without measuring."""
    trial = trials(shape, 1)[0]
    choice = choose([trial], None, device, 1)[program_name(trial)]
    return choice.mode, choice.slots


def measure(shape: Shape, device: str) -> dict[str, float]:
    """Median milliseconds of a member step, by contender, and the members of the fused pack."""
    runs: dict[str, Run] = {"plain": alone(Plain(shape), shape, device)}
    members = {"plain": 1}
    if shape.cell in KERNELS:
        runs["library"], members["library"] = alone(Library(shape), shape, device), 1
    if shape.steps * shape.width <= 100 * 64:
        runs["lifted"], members["lifted"] = lifted(shape, device), LIFTED_MEMBERS
    mode, slots = chosen(shape, device)
    fused = shape.members or (slots if mode == "fused" else max(4, 1024 // shape.width))
    runs["fused"], members["fused"] = memsweep(shape, device, "fused", fused), fused
    if shape.cell in KERNELS:
        runs["serial"], members["serial"] = memsweep(shape, device, "serial", 2), 2
    each: dict[str, int] = {}
    for name, run in runs.items():
        run(1)  # warms up
        synchronize(device)
        began = time.perf_counter()
        run(1)
        synchronize(device)
        each[name] = max(1, int(SECONDS / (time.perf_counter() - began)))
    turns: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            began = time.perf_counter()
            run(each[name])
            synchronize(device)
            turns[name].append((time.perf_counter() - began) / each[name] / members[name] * 1e3)
    return {name: statistics.median(values) for name, values in turns.items()} | {"members": fused}


def operations(shape: Shape) -> int:
    """Multiplications and additions of one member step's products, both ways; inputs want no gradient."""
    kind = KINDS[shape.cell]
    inputs, state = kind.blocks * shape.width * FEATURES, kind.recurrent * shape.width**2
    return 2 * BATCH * shape.steps * (2 * inputs + 3 * state) + 3 * 2 * BATCH * shape.width * CLASSES


def main() -> None:
    options = parsed()
    torch.set_num_threads(1)
    device = torch.cuda.get_device_name() if options.device == "cuda" else "cpu, 1 thread"
    per_second = peak(options.device)
    print(machine.header())
    print(f"{device}: {per_second / 1e9:.0f} GFLOP/s in a product of 2048; batch {BATCH}; medians of {ROUNDS} rounds")
    print("ms a member step, the arithmetic limit; what memsweep chooses, over the fastest alone and over plain")
    names = ("plain", "library", "lifted", "fused", "serial")
    print(f"{'cell':>8}{'T':>5}{'H':>5}" + "".join(f"{name:>10}" for name in names) + f"{'limit':>10}   chosen")
    rows: list[dict[str, Any]] = []
    for cell, steps, width in product(options.cells, options.steps, options.widths):
        shape = Shape(cell, steps, width, options.members)
        limit = operations(shape) / per_second * 1e3
        found = measure(shape, options.device)
        mode, _ = chosen(shape, options.device)
        ours, solo = found[mode], min(found["plain"], found.get("library", found["plain"]))
        rows.append({**shape._asdict(), "milliseconds": found, "arithmetic_milliseconds": limit, "chosen": mode})
        numbers = "".join(f"{found[name]:10.3f}" if name in found else f"{'':>10}" for name in names)
        of = f" x{found['members']:.0f}" if mode == "fused" else ""
        told = f"{mode}{of}  {solo / ours:.2f}x  {found['plain'] / ours:.1f}x"
        print(f"{cell:>8}{steps:5}{width:5}{numbers}{limit:10.3f}   {told}", flush=True)
    print(
        json.dumps(
            {
                "benchmark": "sequence_step",
                "machine": machine.describe(),
                "device": device,
                "repeats": ROUNDS,
                "operations_per_second": per_second,
                "rows": rows,
            }
        )
    )


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    written = [cell for cell in CELLS if "+" not in cell and cell != "pru_c"]
    parser.add_argument(
        "--cells", nargs="+", default=["lstm", "gru", "rnn", "ugrnn", "pru_a", "pru_b"], choices=written
    )
    parser.add_argument("--steps", type=int, nargs="+", default=[20, 100, 400], metavar="T")
    parser.add_argument("--widths", type=int, nargs="+", default=[16, 64, 256], metavar="H")
    parser.add_argument("--members", type=int, default=0, metavar="M", help="0: as memsweep chooses")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    return parser.parse_args()


if __name__ == "__main__":
    main()
