"""What does one step of one member cost, beside plain PyTorch, torch.func, JAX and what the machine could do at best?

All on one core and one thread, in turns, on the same data: MLP D-H-H-10 (ReLU), batch 100, SGD with momentum and decay,
inputs shared by members, labels, orders and weights each member's own. A step is all of it: order, gather, forward,
backward, update. JAX is asked where it is installed (`pip install -c constraints.txt -e '.[bench]'`).

    python -m tests.bench.member_step --widths 8 32 --dims 64 --members 8 128
    python -m tests.bench.member_step --dims 64 --members 64 4096 --uncompiled --device cuda

On a GPU a step is timed until the device is done, and the limits are the GPU's; JAX is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from itertools import pairwise, product
from typing import Any, NamedTuple

if __name__ == "__main__":  # before torch and JAX start threads
    if "cuda" not in sys.argv:  # there, torch goes backwards in a thread of its own
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    os.environ |= {"OMP_NUM_THREADS": "1", "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false", "JAX_PLATFORMS": "cpu"}

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap

from memsweep.engine.train import trainer
from memsweep.spec.config import TrialConfig
from tests.bench import machine
from tests.bench.convolution import synchronize

CLASSES, BATCH, EXAMPLES = 10, 100, 1000
RATE, MOMENTUM, DECAY = 0.01, 0.9, 1e-4
ROUNDS = 3
SECONDS = 0.5  # of each contender in each round, about

Run = Callable[[int], None]
"""Trains for so many steps."""


class Shape(NamedTuple):
    width: int
    dim: int
    members: int

    @property
    def layers(self) -> list[tuple[int, int]]:
        return list(pairwise((self.dim, self.width, self.width, CLASSES)))


def data(shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    """Inputs [N, D] and labels [M, N]."""
    random = np.random.default_rng(0)
    inputs = random.standard_normal((EXAMPLES, shape.dim), dtype=np.float32)
    return inputs, random.integers(CLASSES, size=(shape.members, EXAMPLES))


def network(shape: Shape) -> nn.Sequential:
    (d, h), _, (_, k) = shape.layers
    return nn.Sequential(nn.Linear(d, h), nn.ReLU(), nn.Linear(h, h), nn.ReLU(), nn.Linear(h, k))


def plain_torch(shape: Shape, device: str) -> Run:
    """One network alone, as in any tutorial; its step is what each member would cost."""
    inputs, labels = data(shape)
    x, y = torch.from_numpy(inputs).to(device), torch.from_numpy(labels[0]).to(device)
    model = network(shape).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=MOMENTUM, weight_decay=DECAY, fused=True)

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


def torch_func(shape: Shape, device: str) -> Run:
    """Model ensembling as torch.func's documentation shows it, with an update by hand."""
    inputs, labels = data(shape)
    x, y = torch.from_numpy(inputs).to(device), torch.from_numpy(labels).to(device)
    models = [network(shape).to(device) for _ in range(shape.members)]
    base = network(shape).to("meta")
    parameters, _ = stack_module_state(models)
    parameters = {name: value.detach() for name, value in parameters.items()}
    velocity = {name: torch.zeros_like(value) for name, value in parameters.items()}

    def loss(own: dict[str, Tensor], images: Tensor, given: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(base, own, (images,)), given)

    gradient = vmap(grad(loss))

    def run(steps: int) -> None:
        order = torch.empty(shape.members, 0, dtype=torch.int64, device=device)
        for _ in range(steps):
            if not order.shape[1]:
                order = torch.rand(shape.members, EXAMPLES, device=device).argsort(1)
            batch, order = order[:, :BATCH], order[:, BATCH:]
            gradients = gradient(parameters, x[batch], y.gather(1, batch))
            with torch.no_grad():
                for name, value in parameters.items():
                    velocity[name].mul_(MOMENTUM).add_(gradients[name] + DECAY * value)
                    value.sub_(RATE * velocity[name])

    return run


def jax_scan(shape: Shape) -> Run:
    """vmap over members, scan over the steps of an epoch, one compiled program."""
    import jax
    import jax.numpy as jnp

    inputs, labels = data(shape)
    x, y = jnp.asarray(inputs), jnp.asarray(labels.astype(np.int32))
    keys = jax.random.split(jax.random.PRNGKey(0), shape.members)

    def weights(key: Any) -> list[tuple[Any, Any]]:
        parts = jax.random.split(key, len(shape.layers))
        return [
            (jax.random.uniform(part, (i, o), minval=-1, maxval=1) / i**0.5, jnp.zeros(o))
            for part, (i, o) in zip(parts, shape.layers, strict=True)
        ]

    def loss(own: Any, images: Any, given: Any) -> Any:
        h = images
        for matrix, bias in own[:-1]:
            h = jax.nn.relu(h @ matrix + bias)
        matrix, bias = own[-1]
        return -jnp.take_along_axis(jax.nn.log_softmax(h @ matrix + bias), given[:, None], 1).mean()

    def step(carry: Any, batch: Any, own_labels: Any) -> Any:
        own, velocity = carry
        gradients = jax.grad(loss)(own, x[batch], own_labels[batch])
        velocity = jax.tree.map(lambda v, g, w: MOMENTUM * v + g + DECAY * w, velocity, gradients, own)
        return (jax.tree.map(lambda w, v: w - RATE * v, own, velocity), velocity), None

    def epoch(carry: Any, key: Any, own_labels: Any) -> Any:
        order = jax.random.permutation(key, EXAMPLES).reshape(-1, BATCH)
        return jax.lax.scan(partial(step, own_labels=own_labels), carry, order)[0]

    epochs = jax.jit(jax.vmap(epoch), donate_argnums=0)
    first = jax.vmap(weights)(keys)
    carry = [(first, jax.tree.map(jnp.zeros_like, first))]

    def run(steps: int) -> None:
        for number in range(-(-steps * BATCH // EXAMPLES)):
            carry[0] = epochs(carry[0], jax.vmap(partial(jax.random.fold_in, data=number))(keys), y)
        jax.block_until_ready(carry[0])

    return run


def memsweep(shape: Shape, device: str, *, compiled: bool) -> Run:
    """The engine's own `advance`, called once an epoch; nothing is due for measurement then."""
    base = {
        "data.task": "gaussian",
        "data.input_dim": shape.dim,
        "data.label_scheme": "random",
        "data.classes": CLASSES,
        "data.examples": EXAMPLES,
        "data.validation_examples": 0,
        "data.test_examples": 0,
        "model.width": shape.width,
        "model.depth": 2,
        "optimizer.batch_size": BATCH,
        "optimizer.learning_rate": RATE,
        "optimizer.momentum": MOMENTUM,
        "regularization.weight_decay": DECAY,
        "stop.steps": 10**9,
        "stop.measure_steps": 10**9,
        "seeds.inputs": 0,
    }
    trials = [TrialConfig.of({**base, "seed": seed}) for seed in range(shape.members)]
    program = trainer.compose(trials, device, compiled=compiled)
    states = [trainer.init(program, trials)]

    def run(steps: int) -> None:
        for _ in range(-(-steps * BATCH // EXAMPLES)):
            states[0], _measured = trainer.advance(program, states[0], EXAMPLES // BATCH)

    return run


def microseconds(run: Run, steps: int, members: int, device: str) -> float:
    began = time.perf_counter()
    run(steps)
    synchronize(device)
    return (time.perf_counter() - began) / steps / members * 1e6


def peak(device: str) -> tuple[float, float]:
    """What one core, or a GPU, can do: operations a second in a large product, bytes a second copied."""
    size = product_size(device)
    a, b, out = (torch.randn(size, size, device=device) for _ in range(3))
    product_seconds = _fastest(lambda: torch.mm(a, b, out=out), device)
    source, target = (torch.zeros(2**26 if device == "cpu" else 2**29, device=device) for _ in range(2))
    return 2 * size**3 / product_seconds, 2 * source.nbytes / _fastest(lambda: target.copy_(source), device)


def product_size(device: str) -> int:
    """Of the large product: enough to fill a device."""
    return 1024 if device == "cpu" else 8192


def _fastest(work: Callable[[], object], device: str) -> float:
    def once() -> float:
        synchronize(device)
        began = time.perf_counter()
        work()
        synchronize(device)
        return time.perf_counter() - began

    return min(once() for _ in range(8))


def limits(shape: Shape, operations: float, bandwidth: float) -> tuple[float, float]:
    """Microseconds that the products of one member step, and moving its numbers once, take at best."""
    products = sum(2 * BATCH * i * o * (2 if number == 0 else 3) for number, (i, o) in enumerate(shape.layers))
    parameters = sum(i * o + o for i, o in shape.layers)
    moved = 4 * (2 * BATCH * shape.dim + 4 * parameters)  # batch read and written; weights and velocity both ways
    return products / operations * 1e6, moved / bandwidth * 1e6


def measure(shape: Shape, device: str, uncompiled: bool) -> dict[str, float]:
    """Median microseconds of a member step, by contender."""
    makers: dict[str, Callable[[Shape], Run]] = {
        "plain": partial(plain_torch, device=device),
        "torch.func": partial(torch_func, device=device),
        **({"jax": jax_scan} if device == "cpu" and find_spec("jax") else {}),
        "uncompiled": partial(memsweep, device=device, compiled=False),
        **({} if uncompiled else {"compiled": partial(memsweep, device=device, compiled=True)}),
    }
    runs = {name: make(shape) for name, make in makers.items()}
    members = {name: 1 if name == "plain" else shape.members for name in runs}
    epoch = EXAMPLES // BATCH
    steps = {}
    for name, run in runs.items():
        microseconds(run, epoch, 1, device)  # compiles, warms up
        one = microseconds(run, epoch, 1, device) / 1e6
        steps[name] = max(1, round(SECONDS / one / epoch)) * epoch
    turns: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            turns[name].append(microseconds(run, steps[name], members[name], device))
    return {name: statistics.median(values) for name, values in turns.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", type=int, nargs="+", default=[8, 32, 128, 512], metavar="H")
    parser.add_argument("--dims", type=int, nargs="+", default=[64, 784], metavar="D")
    parser.add_argument("--members", type=int, nargs="+", default=[8, 128], metavar="M")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--uncompiled", action="store_true", help="leave compiled programs out")
    options = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.cuda.get_device_name() if options.device == "cuda" else "one core"
    print(machine.header())
    operations, bandwidth = peak(options.device)
    size = product_size(options.device)
    print(f"{device}: {operations / 1e9:.0f} GFLOP/s in a product of {size}, {bandwidth / 1e9:.1f} GB/s copied\n")
    rows = []
    for dim, width, members in product(options.dims, options.widths, options.members):
        shape = Shape(width, dim, members)
        arithmetic, memory = limits(shape, operations, bandwidth)
        found = measure(shape, options.device, options.uncompiled)
        best = "uncompiled" if options.uncompiled else "compiled"
        rows.append({**shape._asdict(), **found, "arithmetic": arithmetic, "memory": memory})
        if len(rows) == 1:
            names = list(found)
            print(f"us a member step; then {best} against each, and its share of the arithmetic limit")
            print(
                f"{'D':>4} {'width':>5} {'M':>4}" + "".join(f"{name:>12}" for name in (*names, "arithmetic", "memory"))
            )
        ours = found[best]
        ratios = "  ".join(f"{name} {value / ours:.2f}x" for name, value in found.items() if name != best)
        numbers = "".join(f"{value:12.1f}" for value in (*found.values(), arithmetic, memory))
        print(f"{dim:4} {width:5} {members:4}{numbers}   {ratios}  limit {arithmetic / ours:.0%}", flush=True)
    peaks = {"flop_per_second": operations, "bytes_per_second": bandwidth}
    print(
        json.dumps(
            {"benchmark": "member_step", "machine": machine.describe(), "device": device, **peaks, "microseconds": rows}
        )
    )


if __name__ == "__main__":
    main()
