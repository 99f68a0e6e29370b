"""One table of trainings, model x optimizer x regularizer; a new row is tested for every property of the engine.

Below it, rows of the tables that several tests write.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from memsweep.spec.config import FIELDS, TrialConfig
from memsweep.spec.fields.groups import Model
from memsweep.spec.fields.own import OwnFields
from memsweep.spec.schema import cell

SMALL: dict[str, Any] = {
    "data.task": "digits",
    "data.examples": 90,
    "data.validation_examples": 40,
    "data.noise_kind": "labels",
    "data.noise_fraction": 0.3,
    "model.width": 8,
    "optimizer.batch_size": 20,
    "optimizer.epochs": 4,
    "optimizer.learning_rate": 0.1,
}
ADAMW: dict[str, Any] = {"optimizer.name": "adamw", "optimizer.learning_rate": 0.01}
IMAGES: dict[str, Any] = {
    "data.task": "gaussian",
    "data.input_dim": 144,
    "data.label_scheme": "random",
    "data.classes": 3,
    "model.family": "cnn",
    "model.width": 4,
    "optimizer.learning_rate": 0.01,
}

SMOOTHED: dict[str, Any] = {"regularization.label_smoothing": 0.1, "optimizer.momentum": 0.9}
RECURRENT: dict[str, Any] = {
    "data.noise_kind": "none",
    "data.noise_fraction": 0.0,
    "model.family": "recurrent",
    "model.depth": 1,
    "optimizer.momentum": 0.9,
    "optimizer.learning_rate": 0.02,  # 200 steps at 0.1 blow a rounding error up to 1e-8 and more
}
COPY: dict[str, Any] = {
    **RECURRENT,
    **ADAMW,
    "data.task": "copy",
    "data.sequence_length": 9,
    "data.items": 3,
    "data.vocabulary": 4,
    "optimizer.momentum": 0.0,
}
RECALL: dict[str, Any] = {"data.task": "recall", "data.sequence_length": 12, "data.items": 2, "data.vocabulary": 16}
STRINGS: dict[str, Any] = {"data.task": "strings", "data.sequence_length": 5, "data.vocabulary": 7}
RANDOM_SEQUENCES: dict[str, Any] = {
    "data.task": "random_sequences",
    "data.sequence_length": 5,
    "data.input_dim": 10,
    "data.label_scheme": "random",
    "data.classes": 3,
}
GPT: dict[str, Any] = {**RECURRENT, "model.family": "transformer", "model.depth": 2, "model.heads": 2}
RESIDUAL: dict[str, Any] = {
    **{"model.family": "resnet", "model.depth": 1, "model.width": 4},
    **{"optimizer.momentum": 0.9, "optimizer.learning_rate": 0.02},
}
MUP: dict[str, Any] = {"model.parametrization": "mup", "model.base_width": 4, "model.width": 12}
AUTOCAST: dict[str, Any] = {"compute.autocast": "bfloat16"}

CASES: dict[str, dict[str, Any]] = {
    "sgd": {},
    "momentum": {"optimizer.momentum": 0.9},
    "decay": {"optimizer.momentum": 0.9, "regularization.weight_decay": 0.01},
    "adamw": ADAMW,
    "adamw, decay": {**ADAMW, "regularization.weight_decay": 0.1, "optimizer.betas": (0.8, 0.99)},
    "nesterov": {"optimizer.name": "nesterov", "optimizer.momentum": 0.9, "regularization.weight_decay": 0.01},
    "rmsprop": {
        **{"optimizer.name": "rmsprop", "optimizer.learning_rate": 0.01, "optimizer.momentum": 0.5},
        **{"optimizer.alpha": 0.9, "regularization.weight_decay": 0.01},
    },
    "adam": {**ADAMW, "optimizer.name": "adam", "regularization.weight_decay": 0.1},
    "muon": {
        **{"optimizer.name": "muon", "optimizer.learning_rate": 0.01, "optimizer.momentum": 0.95},
        **{"regularization.weight_decay": 0.1},
    },
    "sam": {"optimizer.name": "sam", "optimizer.momentum": 0.9, "regularization.weight_decay": 0.01},
    "sam, own buffers": {"optimizer.name": "sam", "model.family": "tests.cases:Normalized", "optimizer.radius": 0.1},
    "schedule": {"optimizer.momentum": 0.9, "optimizer.schedule": "step:2:0.5"},
    "warm-up, cosine": {"optimizer.momentum": 0.9, "optimizer.schedule": "warmup:1+cosine"},
    "own optimizer": {
        **{"optimizer.name": "torch.optim:NAdam", "optimizer.learning_rate": 0.01, "optimizer.schedule": "cosine"},
        **{"regularization.weight_decay": 0.01, "own.momentum_decay": 0.01, "optimizer.clip": 0.5},
    },
    "own optimizer of the user's": {
        **{"optimizer.name": "tests.cases:Signs", "optimizer.learning_rate": 0.01, "optimizer.momentum": 0.9},
        **{"model.family": "tests.cases:HalfFrozen", "own.noise": 0.1, "optimizer.schedule": "step:2:0.5"},
    },
    "own pair of functions": {
        **{"optimizer.name": "tests.cases:LION", "optimizer.learning_rate": 0.01, "optimizer.schedule": "cosine"},
        **{"own.decay": 0.01, "optimizer.clip": 0.5, "regularization.dropout": 0.2},
    },
    "own schedule": {"optimizer.momentum": 0.9, "optimizer.schedule": "tests.cases:warm", "own.steps": 3},
    "averaged": {"optimizer.averaging": 0.9, "optimizer.momentum": 0.9},
    "averaged, own buffers": {"optimizer.averaging": 0.5, "model.family": "tests.cases:Normalized"},
    "clip": {"optimizer.clip": 0.5},
    "dropout": {"regularization.dropout": 0.3},
    "input dropout": {"regularization.input_dropout": 0.2},
    "input noise": {"regularization.input_noise": 0.5},
    "hidden noise": {"regularization.hidden_noise": 0.2},
    "smoothing": {"regularization.label_smoothing": 0.1},
    "all at once": {
        **ADAMW,
        "optimizer.clip": 1.0,
        "regularization.dropout": 0.2,
        "regularization.input_dropout": 0.1,
        "regularization.input_noise": 0.3,
        "regularization.hidden_noise": 0.1,
        "regularization.weight_decay": 0.01,
        "regularization.label_smoothing": 0.05,
    },
    "adversarial": {"optimizer.momentum": 0.9, "regularization.adversarial": 0.5, "data.noise_fraction": 1.0},
    "adversarial, dropout": {**ADAMW, "regularization.adversarial": 0.3, "regularization.dropout": 0.2},
    "penalty": {"regularization.penalty": "tests.cases:sharpness", "regularization.penalty_strength": 0.01},
    "own loss": {"optimizer.objective": "tests.cases:focal", "own.power": 2, "optimizer.momentum": 0.9},
    "own loss, scalar": {**ADAMW, "optimizer.objective": "tests.cases:spread", "regularization.dropout": 0.2},
    "own buffers": {"model.family": "tests.cases:Normalized", "optimizer.momentum": 0.9},
    "own buffers, handed on": {"model.family": "tests.cases:Delayed", "optimizer.momentum": 0.9},
    "own buffers, shared": {"model.family": "tests.cases:Shared", "optimizer.momentum": 0.9},
    "sam, own buffers, handed on": {"optimizer.name": "sam", "model.family": "tests.cases:Delayed"},
    "own frozen layer": {
        "model.family": "tests.cases:HalfFrozen",
        "model.perturbation": 0.5,
        "optimizer.momentum": 0.9,
        "optimizer.clip": 0.5,
        "regularization.weight_decay": 0.01,
        "regularization.penalty": "tests.cases:sharpness",
        "regularization.penalty_strength": 0.001,
    },
    "own frozen layer, adamw": {
        **ADAMW,
        "model.family": "tests.cases:HalfFrozen",
        "regularization.weight_decay": 0.1,
    },
    "own resnet": {"model.family": "tests.own_networks:ResNet", "optimizer.momentum": 0.9},
    "own transformer": {  # not by Adam: attention ignores the keys' bias, whose gradient is rounding alone
        **{"model.family": "tests.own_networks:Transformer", "model.depth": 1},
        **{"optimizer.momentum": 0.9, "optimizer.learning_rate": 0.02},
    },
    "own gpt, sam": {"optimizer.name": "sam", "model.family": "tests.own_networks:GPT", "model.depth": 1},
    "layer norm": {"model.norm": "layer", "optimizer.momentum": 0.9},
    "layer norm, dropout": {**ADAMW, "model.norm": "layer", "regularization.dropout": 0.2},
    "batch norm": {"model.norm": "batch", "optimizer.momentum": 0.9},
    "random features": {
        **{"model.frozen_layers": 1, "model.depth": 1, "model.width": 48, "model.initialization": "he"},
        **{"optimizer.momentum": 0.9, "regularization.weight_decay": 0.001},
    },
    "mup": {
        **{**MUP, "model.norm": "layer", "optimizer.momentum": 0.9, "optimizer.learning_rate": 0.02},
        **{"regularization.weight_decay": 0.01, "optimizer.clip": 1.0},
    },
    "mup, adamw": {**ADAMW, **MUP, "regularization.weight_decay": 0.1, "optimizer.schedule": "cosine"},
    "autocast": {**AUTOCAST, "model.norm": "layer", "optimizer.momentum": 0.9, "regularization.dropout": 0.1},
    "autocast, adversarial": {**AUTOCAST, "regularization.adversarial": 0.3, "data.noise_fraction": 1.0},
    "autocast, cnn": {**IMAGES, **AUTOCAST},
    "linear": {"model.depth": 0},
    "deep tanh": {"model.depth": 3, "model.activation": "tanh", "model.initialization": "glorot"},
    "wide": {"model.width": 41, "model.depth": 1, "model.activation": "gelu"},
    "leaky, alternating": {
        "data.task": "alternating",
        "data.validation_examples": 0,
        "data.noise_kind": "none",
        "data.noise_fraction": 0.0,
        "model.activation": "leaky_relu",
    },
    "modular": {
        **{**ADAMW, "data.task": "modular", "data.operation": "divide", "data.modulus": 13},
        **{"model.depth": 1, "regularization.weight_decay": 1.0},
    },
    "hardtanh": {"model.activation": "hardtanh"},
    "gaussian inputs": {"data.noise_kind": "gaussian_inputs"},
    "synthetic": {
        "data.task": "gaussian",
        "data.input_dim": 12,
        "data.label_scheme": "random",
        "data.classes": 3,
        "model.activation": "sigmoid",
        "model.initialization": "he",
    },
    "squared, perturbed": {
        "model.depth": 1,
        "model.width": 160,
        "model.initialization": "interpolating",
        "model.perturbation": 0.5,
        "optimizer.objective": "squared",
        "optimizer.learning_rate": 0.002,
    },
    "cnn": {**IMAGES, "optimizer.momentum": 0.9, "regularization.weight_decay": 0.001},
    "cnn, dropout": {**IMAGES, "data.input_dim": 363, "regularization.dropout": 0.2},
    "cnn, adversarial": {**IMAGES, "regularization.adversarial": 0.5},
    "resnet": {**RESIDUAL, "model.norm": "batch", "regularization.weight_decay": 0.001},
    "resnet, group norm": {**RESIDUAL, "model.norm": "group", "regularization.dropout": 0.2},
    "lstm, copy": {**COPY, "model.cell": "lstm"},
    "pru_a+plus_out, copy": {**COPY, "model.cell": "pru_a+plus_out", "model.depth": 2},
    "pru_c+plus_state, recall": {**RECURRENT, **RECALL, "model.cell": "pru_c+plus_state"},
    "pru_b+plus_cand, strings": {**RECURRENT, **STRINGS, "model.cell": "pru_b+plus_cand"},
    "pru_d, reconstruction": {
        **RECURRENT,
        "data.task": "reconstruction",
        "data.input_dim": 3,
        "data.sequence_length": 4,
        "model.cell": "pru_d",
    },
    "gru, adding, truncated": {
        **RECURRENT,
        "data.task": "adding",
        "data.sequence_length": 6,
        "model.cell": "gru",
        "optimizer.truncation": 4,
        "optimizer.clip": 0.5,
        "regularization.input_noise": 0.1,
    },
    "ugrnn, digits by halves": {
        **RECURRENT,
        "data.task": "digits",
        "data.sequence_length": 2,
        "data.noise_kind": "labels",
        "data.noise_fraction": 0.3,
        "model.cell": "ugrnn",
        "regularization.adversarial": 0.3,
    },
    "weights, adversarial": {"data.task": "tests.cases:weighted", **SMOOTHED, "regularization.adversarial": 0.3},
    "weights, squared": {"data.task": "tests.cases:weighted", "optimizer.objective": "squared", **ADAMW},
    "weights, own loss": {
        **{"data.task": "tests.cases:weighted", "optimizer.objective": "tests.cases:focal", "own.power": 2},
        "data.repeats": (3, 2),
    },
    "weights, real targets": {**RECURRENT, "data.task": "tests.cases:weighted_targets", "model.family": "mlp"},
    "rnn, random sequences": {**RECURRENT, **RANDOM_SEQUENCES, "model.cell": "rnn", "regularization.dropout": 0.2},
    "irnn, random sequences": {**RECURRENT, **RANDOM_SEQUENCES, "model.cell": "irnn"},
    "attention, strings": {**RECURRENT, **STRINGS, "model.family": "attention", "regularization.label_smoothing": 0.1},
    "attention, recall": {**RECURRENT, **RECALL, "model.family": "attention", "model.width": 32},
    "transformer, strings": {**GPT, **STRINGS, "regularization.dropout": 0.1},
    "transformer, recall": {**GPT, **RECALL, "model.heads": 4},
    "autocast, transformer": {**GPT, **STRINGS, **AUTOCAST},
    "transformer, mup": {**GPT, **STRINGS, **MUP, "optimizer.name": "nesterov"},
    "transformer, digits by rows": {**GPT, "data.task": "digits", "data.sequence_length": 8, "model.depth": 1},
}
SINGLE = {case for case, fields in CASES.items() if "compute.autocast" in fields}
"""Cases that have no double precision."""


class Normalized(nn.Module):
    """A network as a user might write it, with buffers that torch changes in place, and one that is replaced."""

    scale: Tensor

    def __init__(self, model: Model, input_dim: int, classes: int):
        super().__init__()
        self.enter, self.leave = nn.Linear(input_dim, model.width), nn.Linear(model.width, classes)
        self.norm = nn.BatchNorm1d(model.width)
        self.register_buffer("scale", torch.ones(()))

    def forward(self, inputs: Tensor) -> Tensor:
        h = torch.relu(self.norm(self.enter(inputs)))
        if self.training:
            self.scale = 0.9 * self.scale + 0.1 * h.detach().abs().mean()
        logits: Tensor = self.leave(h / self.scale)
        return logits


class Delayed(nn.Module):
    """A network as a user might write it, which reads what a buffer was a step ago and hands its tensor on."""

    now: Tensor
    before: Tensor

    def __init__(self, model: Model, input_dim: int, classes: int):
        super().__init__()
        self.enter, self.leave = nn.Linear(input_dim, model.width), nn.Linear(model.width, classes)
        self.register_buffer("now", torch.ones(()))
        self.register_buffer("before", torch.ones(()))

    def forward(self, inputs: Tensor) -> Tensor:
        h = torch.relu(self.enter(inputs))
        h = h / (0.5 + self.before)
        if self.training:
            self.before = self.now
            self.now = 0.5 * self.now + 0.5 * h.detach().abs().mean()
        logits: Tensor = self.leave(h)
        return logits


class Shared(Delayed):
    """Changes a buffer in place and gives its tensor to another, so that one tensor has two names."""

    def __init__(self, model: Model, input_dim: int, classes: int):
        super().__init__(model, input_dim, classes)
        self.before.zero_()

    def forward(self, inputs: Tensor) -> Tensor:
        h = torch.relu(self.enter(inputs))
        h = h / (0.5 + self.before)
        if self.training:
            self.now.mul_(0.5).add_(0.5 * h.detach().abs().mean())
            self.before = self.now
        logits: Tensor = self.leave(h)
        return logits


class HalfFrozen(nn.Module):
    """A network as a user might write it, with a layer that stays as it is drawn, between two that are trained."""

    def __init__(self, model: Model, input_dim: int, classes: int):
        super().__init__()
        self.enter, self.leave = nn.Linear(input_dim, model.width), nn.Linear(model.width, classes)
        self.features = nn.Linear(model.width, model.width).requires_grad_(False)
        self.leave.bias.requires_grad_(False)

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.leave(torch.tanh(self.features(self.enter(inputs))))
        return logits


class Scored(nn.Module):
    """Reads an example in steps of eight; a score of each, by one column, weighs what they say."""

    def __init__(self, model: Model, input_dim: int, classes: int):
        super().__init__()
        self.enter = nn.Linear(8, model.width)
        self.score, self.leave = nn.Linear(model.width, 1), nn.Linear(model.width, classes)

    def forward(self, inputs: Tensor) -> Tensor:
        h = torch.tanh(self.enter(inputs.unflatten(-1, (-1, 8))))
        logits: Tensor = self.leave((self.score(h).softmax(-2) * h).sum(-2))
        return logits


class OneHidden(nn.Sequential):
    """Its hidden layer has one unit."""

    def __init__(self, model: Model, input_dim: int, classes: int):
        super().__init__(nn.Linear(input_dim, 1), nn.Tanh(), nn.Linear(1, classes))


class ByHand(nn.Module):
    """Multiplies by a column that is no layer's: nothing makes this exact."""

    def __init__(self, model: Model, input_dim: int, classes: int):
        super().__init__()
        self.column, self.leave = nn.Parameter(torch.randn(input_dim, 1) / 8), nn.Linear(1, classes)

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.leave(inputs @ self.column)
        return logits


def sharpness(parameters: dict[str, Tensor], inputs: Tensor, logits: Tensor) -> Tensor:
    """A penalty as a user might write it: confident answers, and the weights' absolute values."""
    weights = torch.stack([value.abs().sum() for value in parameters.values()]).sum()
    return logits.square().mean() + weights / 100


class Signs(torch.optim.Optimizer):
    """Steps along the signs of a mean of gradients, with noise that it draws itself; counts its steps in the group."""

    def __init__(self, params: Any, lr: float, momentum: float = 0.0, noise: float = 0.0, unused: int = 3):
        super().__init__(params, {"lr": lr, "momentum": momentum, "noise": noise, "steps": 0})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Moves the parameters; replaces those with one axis instead of changing them in place."""
        for group in self.param_groups:
            group["steps"] += 1
            for weight in group["params"]:
                state = self.state[weight]
                first = weight.grad.double() if not state else state["mean"]
                state["mean"] = group["momentum"] * first + (1 - group["momentum"]) * weight.grad
                noise = group["noise"] / group["steps"] * torch.randn_like(weight)
                moved = weight - group["lr"] * (state["mean"].sign().to(weight) + noise)
                if weight.dim() == 1:
                    weight.data = moved
                else:
                    weight.copy_(moved)


def begin(parameters: dict[str, Tensor]) -> dict[str, Any]:
    """The state of LION: means of gradients, and the number of steps."""
    means = {name: torch.zeros_like(value) for name, value in parameters.items()}
    return {"mean": means, "step": torch.zeros((), dtype=torch.int64)}


def lion(
    gradients: dict[str, Tensor], state: dict[str, Any], parameters: dict[str, Tensor], rate: Tensor, own: OwnFields
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Steps along smooth signs of a mean of gradients (as Chen et al. 2023), shorter in the first step."""
    moved, means = {}, {}
    rate = torch.where(state["step"] == 0, rate / 2, rate)
    for name, weight in parameters.items():
        mean, gradient = state["mean"][name], gradients[name]
        direction = torch.tanh(50 * (0.9 * mean + 0.1 * gradient))
        moved[name] = weight - rate * (direction + own.decay * weight)
        means[name] = 0.99 * mean + 0.01 * gradient
    return moved, {"mean": means, "step": state["step"] + 1}


LION = (begin, lion)


def warm(step: int, steps: int, own: OwnFields) -> float:
    """A schedule: rises over own.steps steps, then falls to 0."""
    return float(min((step + 1) / own.steps, (steps - step) / steps))


def weighted(config: TrialConfig, rng: np.random.Generator) -> tuple[Any, Any, Any]:
    """A task whose training examples have weights, every fifth the weight 0."""
    inputs = rng.normal(size=(200, 12))
    weights = np.where(np.arange(200) % 5, rng.exponential(size=200), 0)
    return inputs, inputs[:, :4].argmax(1), weights


def weighted_targets(config: TrialConfig, rng: np.random.Generator) -> dict[str, Any]:
    """A task of two real numbers, whose official training part has weights."""
    inputs, _, weights = weighted(config, rng)
    targets = np.stack([inputs[:, 0], inputs[:, 1] * inputs[:, 2]], 1)
    return {"train": (inputs[:150], targets[:150], weights[:150]), "validation": (inputs[150:], targets[150:])}


def focal(logits: Tensor, labels: Tensor, inputs: Tensor, own: OwnFields) -> Tensor:
    """A loss of each example: cross-entropy, less of examples that are right (Lin et al. 2017)."""
    log_p = logits.log_softmax(-1)
    hit = torch.where(torch.arange(logits.shape[-1], device=labels.device) == labels[:, None], log_p, 0.0).sum(-1)
    losses: Tensor = -((1 - hit.exp()) ** own.power) * hit
    return losses


def spread(logits: Tensor, labels: Tensor, inputs: Tensor) -> Tensor:
    """A loss of a whole minibatch: squared errors, less where the inputs are large."""
    wanted = (torch.arange(logits.shape[-1], device=labels.device) == labels[:, None]).to(logits.dtype)
    return ((logits - wanted).square().sum(-1) / (1 + inputs.square().mean(-1))).mean()


def trial(case: str = "sgd", **fields: Any) -> TrialConfig:
    """A small training of the table; other fields as keywords, with two underscores for the dot."""
    dotted = {name.replace("__", "."): value for name, value in fields.items()}
    return TrialConfig.of({**SMALL, **CASES[case], **dotted})


NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def field_columns(trial: TrialConfig) -> dict[str, Any]:
    """A trial's fields as columns of `trials`."""
    return {FIELDS[name].column: cell(value) for name, value in trial.flat().items()}


def ended(
    trial_id: str = "t", status: str = "finished", attempt_id: str = "a", minute: float = 0, **fields: Any
) -> dict[str, Any]:
    """A row of `trials`."""
    times = {"finished_at": NOON + timedelta(minutes=minute)}
    return {"trial_id": trial_id, "attempt_id": attempt_id, "status": status, "probes": "", **times, **fields}


def step(trial_id: str = "t", attempt_id: str = "a", number: int = 1, **fields: Any) -> dict[str, Any]:
    """A row of `steps`."""
    return {"trial_id": trial_id, "attempt_id": attempt_id, "step": number, **fields}
