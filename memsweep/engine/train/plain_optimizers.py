"""Optimizers of plain torch, one network at a time; Muon in full precision and SAM, which torch.optim lacks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop

from memsweep.engine.nn import member_fields, models, parametrization
from memsweep.engine.train import own_optimizers
from memsweep.spec.config import TrialConfig


def optimizers(model: nn.Module, trial: TrialConfig) -> list[Optimizer]:
    """Returns the optimizers of a trial, each for its part of the parameters.

    Built-in ones have a single group; with mup a group a parameter, which has the `factor` of its rate.
    """
    o, decay = trial.optimizer, trial.regularization.weight_decay
    trained = models.trained(model)
    parameters: list[Any] = [parameter for parameter in model.parameters() if parameter.requires_grad]
    fields = member_fields.of_trial(trial, next(model.parameters()).device)
    if (pair := own_optimizers.pair_of(trial, fields)) is not None:
        names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        return [Pure(dict(zip(names, parameters, strict=True)), pair, o.learning_rate)]
    if own_optimizers.is_own(o.name):
        return [own_optimizers.build(trial, parameters)]
    if factors := parametrization.rate_factors(model, trial.model, o.name):
        parameters = [{"params": [value], "factor": factors[name]} for name, value in trained.items()]
    beta1, beta2 = o.betas

    def adamw(some: Iterable[Tensor]) -> Optimizer:
        return AdamW(some, lr=o.learning_rate, betas=(beta1, beta2), weight_decay=decay, foreach=False)

    if o.name == "adamw":
        return [adamw(parameters)]
    if o.name == "adam":
        return [Adam(parameters, lr=o.learning_rate, betas=(beta1, beta2), weight_decay=decay, foreach=False)]
    if o.name == "rmsprop":
        alpha, momentum = o.alpha, o.momentum
        return [RMSprop(parameters, o.learning_rate, alpha, momentum=momentum, weight_decay=decay, foreach=False)]
    if o.name == "muon":
        matrices = [parameter for parameter in parameters if parameter.dim() == 2]
        others = [parameter for parameter in parameters if parameter.dim() != 2]
        parts = [Muon(matrices, o.learning_rate, o.momentum, decay)] if matrices else []
        return [*parts, *([adamw(others)] if others else [])]
    is_nesterov = o.name == "nesterov"
    return [SGD(parameters, o.learning_rate, o.momentum, weight_decay=decay, nesterov=is_nesterov, foreach=False)]


class Pure(Optimizer):
    """A user's pair of pure functions."""

    def __init__(self, parameters: dict[str, nn.Parameter], pair: own_optimizers.Pair, lr: float):
        super().__init__(parameters.values(), {"lr": lr})
        self.parameters, self.pair = parameters, pair
        self.kept = pair.begin({name: weight.detach() for name, weight in parameters.items()})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]  # without a closure
        """Moves the parameters."""
        weights = {name: weight.detach() for name, weight in self.parameters.items()}
        gradients = {name: weight.grad for name, weight in self.parameters.items() if weight.grad is not None}
        rate = torch.tensor(self.param_groups[0]["lr"], dtype=torch.float64).to(next(iter(weights.values())))
        moved, self.kept = self.pair.update(gradients, self.kept, weights, rate)
        for name, weight in self.parameters.items():
            weight.copy_(moved[name])


class Muon(Optimizer):
    """torch.optim.Muon with adjust_lr_fn="match_rms_adamw", but in the parameters' precision instead of bfloat16."""

    def __init__(self, parameters: Iterable[Tensor], lr: float, momentum: float, weight_decay: float):
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]  # without a closure
        """Moves the parameters."""
        (group,) = self.param_groups
        for weight in group["params"]:
            velocity = self.state[weight].setdefault("velocity", torch.zeros_like(weight))
            velocity.lerp_(weight.grad, 1 - group["momentum"])
            x = weight.grad.lerp(velocity, group["momentum"])
            x = x.T if x.shape[0] > x.shape[1] else x
            x = x / x.norm().clamp(min=1e-7)
            for _ in range(5):
                gram = x @ x.T
                x = 3.4445 * x + (-4.775 * gram + 2.0315 * gram @ gram) @ x
            x = x if x.shape == weight.shape else x.T
            weight.mul_(1 - group["lr"] * group["weight_decay"])
            weight.sub_(group["lr"] * 0.2 * max(weight.shape) ** 0.5 * x)


def gradients_nearby(model: nn.Module, backward: Callable[[], None], radius: float) -> None:
    """Replaces the gradients g of a model by those at w + radius * g / |g|, as SAM; buffers stay as they were.

    backward: computes the gradients at the model's parameters.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.grad is not None]
    kept = [parameter.detach().clone() for parameter in parameters]
    buffers = [buffer.clone() for buffer in model.buffers()]
    norm = torch.stack([parameter.grad.norm() for parameter in parameters]).norm()  # type: ignore[union-attr]
    with torch.no_grad():
        for parameter in parameters:
            parameter.add_(parameter.grad * (radius / (norm + 1e-12)))
    backward()
    with torch.no_grad():
        for parameter, value in zip(parameters, kept, strict=True):
            parameter.copy_(value)
        for buffer, value in zip(model.buffers(), buffers, strict=True):
            buffer.copy_(value)
