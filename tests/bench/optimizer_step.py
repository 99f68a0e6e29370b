"""What does a member step of each optimizer and schedule cost, beside torch.optim in a loop of one network?

The network is work A's, of width 32. `plain` is the loop of any tutorial with the fastest of torch.optim's
implementations, and torch.optim.lr_scheduler where there is a schedule; SAM, which torch lacks, is two passes around
its SGD. Contenders, turns, the ratio and its mark are those of `network_step`.

    python -m tests.bench.optimizer_step
    python -m tests.bench.optimizer_step --rows adam muon --members 64
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

if __name__ == "__main__":  # before torch starts threads
    if "cuda" not in sys.argv:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    os.environ |= {"OMP_NUM_THREADS": "1"}

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Muon, Optimizer, RMSprop
from torch.optim import lr_scheduler as schedulers

from memsweep.data import tasks
from memsweep.engine.nn import models
from memsweep.engine.train.program import MODES
from memsweep.spec.config import TrialConfig
from tests.bench import machine, network_step
from tests.bench.network_step import BATCH, EXAMPLES, Run

STEPS = 10**6
"""Of a schedule; more than are timed."""
WARMUP_EPOCHS = 2
MUON: dict[str, Any] = {"optimizer.name": "muon", "optimizer.momentum": 0.9, "regularization.weight_decay": 0.01}
ROWS: dict[str, dict[str, Any]] = {
    "sgd": {},
    "nesterov": {"optimizer.name": "nesterov"},
    "sam": {"optimizer.name": "sam"},
    "rmsprop": {"optimizer.name": "rmsprop"},
    "adam": {"optimizer.name": "adam", "optimizer.momentum": 0.0},
    "adamw": {"optimizer.name": "adamw", "optimizer.momentum": 0.0, "regularization.weight_decay": 0.01},
    "muon": MUON,
    "cosine": {"optimizer.schedule": "cosine", "stop.steps": STEPS},
    "warm-up, cosine": {"optimizer.schedule": f"warmup:{WARMUP_EPOCHS}+cosine", "stop.steps": STEPS},
    "one cycle": {"optimizer.schedule": "one_cycle", "stop.steps": STEPS},
    "inverse sqrt": {"optimizer.schedule": f"warmup:{WARMUP_EPOCHS}+inverse_sqrt"},
}


def optimizers(model: nn.Module, trial: TrialConfig) -> list[Optimizer]:
    """Returns torch's optimizers of a trial, by the implementation that is fastest for few small tensors."""
    o, decay = trial.optimizer, trial.regularization.weight_decay
    weights: list[Tensor] = list(models.trained(model).values())
    betas = (o.betas[0], o.betas[1])
    if o.name == "adam":
        return [Adam(weights, lr=o.learning_rate, betas=betas, fused=True)]
    if o.name == "rmsprop":
        return [RMSprop(weights, lr=o.learning_rate, alpha=o.alpha, momentum=o.momentum, foreach=True)]
    others = [weight for weight in weights if weight.dim() != 2] if o.name == "muon" else weights
    if o.name in ("adamw", "muon"):
        parts: list[Optimizer] = [AdamW(others, lr=o.learning_rate, betas=betas, weight_decay=decay, fused=True)]
        matrices = [weight for weight in weights if weight.dim() == 2] if o.name == "muon" else []
        if matrices:
            parts.append(Muon(matrices, o.learning_rate, decay, o.momentum, adjust_lr_fn="match_rms_adamw"))
        return parts
    return [SGD(weights, lr=o.learning_rate, momentum=o.momentum, nesterov=o.name == "nesterov", fused=True)]


def scheduler(optimizer: Optimizer, trial: TrialConfig) -> schedulers.LRScheduler | None:
    """Returns torch's scheduler of a trial; None: the rate is constant."""
    schedule, rate = trial.optimizer.schedule, trial.optimizer.learning_rate
    warmup = WARMUP_EPOCHS * EXAMPLES // BATCH
    if schedule == "constant":
        return None
    if schedule == "one_cycle":
        return schedulers.OneCycleLR(optimizer, rate, total_steps=STEPS, cycle_momentum=False)
    if schedule.endswith("inverse_sqrt"):
        return schedulers.LambdaLR(optimizer, lambda t: min((t + 1) / warmup, math.sqrt(warmup / (t + 1))))
    if schedule == "cosine":
        return schedulers.CosineAnnealingLR(optimizer, STEPS)
    rising = schedulers.LinearLR(optimizer, 1 / warmup, total_iters=warmup - 1)
    falling = schedulers.CosineAnnealingLR(optimizer, STEPS - warmup)
    return schedulers.SequentialLR(optimizer, [rising, falling], [warmup])


def plain_torch(trial: TrialConfig, device: str) -> Run:
    """The network alone; its step is what each member would cost."""
    data, model = tasks.load(trial), models.build(trial, *tasks.shape(trial)).train().to(device)
    x, y = torch.tensor(data.inputs).to(device), torch.tensor(data.labels).to(device)
    steppers, radius = optimizers(model, trial), trial.optimizer.radius
    schedule = scheduler(steppers[0], trial)
    weights: list[Tensor] = list(models.trained(model).values())

    def backward(batch: Tensor) -> None:
        for weight in weights:
            weight.grad = None
        F.cross_entropy(model(x[batch]), y[batch]).backward()

    def run(steps: int) -> None:
        order = torch.empty(0, dtype=torch.int64, device=device)
        for _ in range(steps):
            if not len(order):
                order = torch.randperm(EXAMPLES, device=device)
            batch, order = order[:BATCH], order[BATCH:]
            backward(batch)
            if trial.optimizer.name == "sam":
                _to_nearby(weights, radius, partial(backward, batch))
            for optimizer in steppers:
                optimizer.step()
            if schedule:
                schedule.step()

    return run


@torch.no_grad()
def _to_nearby(weights: list[Tensor], radius: float, backward: Callable[[], None]) -> None:
    """Replaces gradients by those at w + radius g / |g|, with torch's operations on lists of tensors."""
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    norm = torch.stack(torch._foreach_norm(gradients)).norm()
    kept = [weight.clone() for weight in weights]
    torch._foreach_add_(weights, torch._foreach_mul(gradients, radius / (norm + 1e-12)))
    with torch.enable_grad():
        backward()
    torch._foreach_copy_(weights, kept)


def measure(fields: dict[str, Any], members: int, device: str) -> dict[str, float]:
    """Median milliseconds of a member step, by contender."""
    return network_step.measure({"optimizer.learning_rate": 1e-3, **fields}, members, device, plain_torch)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=ROWS, metavar="ROW")
    parser.add_argument("--members", type=int, default=32, metavar="M", help="of the fused pack")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(machine.header())
    print(f"ms a member step, batch {BATCH}, {options.members} members fused; plain over the faster of ours")
    print(f"{'optimizer or schedule':<24}" + "".join(f"{name:>10}" for name in ("plain", *MODES)))
    rows = [network_step.row(name, measure(ROWS[name], options.members, options.device)) for name in options.rows]
    report = {"benchmark": "optimizer_step", "machine": machine.describe(), "device": options.device, "rows": rows}
    print(json.dumps(report))


if __name__ == "__main__":
    main()
