"""The same training in plain torch.nn and torch.optim, one trial at a time: what the packed engine must equal.

It shares with the engine the order of examples and the random numbers of noise and dropout, and nothing else.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from memsweep.config import TrialConfig, schedule_factor
from memsweep.data import tasks
from memsweep.engine import models, regularizers, streams, trainer
from memsweep.engine.program import Program
from memsweep.engine.regularizers import Perturbation
from memsweep.seeds import key


def train(trial: TrialConfig, steps: int) -> tuple[nn.Module, list[float]]:
    """The module after so many steps, and the norms of the gradients on the way. On the CPU."""
    program = trainer.compose([trial])
    state = trainer.init(program, [trial])
    order = trainer.batches(program, state, steps)[:, 0]
    data, r, o = tasks.load(trial), trial.regularization, trial.optimizer
    model = models.build(trial, program.input_dim, program.classes)
    inputs, labels = torch.tensor(data.inputs).to(program.dtype), torch.tensor(data.labels)
    optimizer = _optimizer(model, trial)
    norms = []
    for step in range(steps):
        if o.schedule != "constant":
            epochs = step * o.batch_size / trial.data.examples
            optimizer.param_groups[0]["lr"] = o.learning_rate * schedule_factor(o.schedule, epochs)
        places = _places(trial, program, step)
        x = regularizers.applied(places[0], inputs[order[step]][None])[0]
        optimizer.zero_grad()
        logits = _forward(model, x, places[1:])
        functional.cross_entropy(logits, labels[order[step]], label_smoothing=r.label_smoothing).backward()  # type: ignore[no-untyped-call]
        norms.append(float(nn.utils.clip_grad_norm_(model.parameters(), o.clip or float("inf"))))
        optimizer.step()
    return model, norms


def _optimizer(model: nn.Module, trial: TrialConfig) -> torch.optim.Optimizer:
    o, decay = trial.optimizer, trial.regularization.weight_decay
    if o.name == "sgd":
        return torch.optim.SGD(
            model.parameters(), lr=o.learning_rate, momentum=o.momentum, weight_decay=decay, foreach=False
        )
    beta1, beta2 = o.betas
    return torch.optim.AdamW(
        model.parameters(), lr=o.learning_rate, betas=(beta1, beta2), weight_decay=decay, foreach=False
    )


def _places(trial: TrialConfig, program: Program, step: int) -> list[Perturbation]:
    """Noise and dropout of one step: at the inputs, then at each hidden layer."""
    r = trial.regularization
    noise_key = torch.tensor([key(trial.stream_seed("order"), "order/noise")])
    step_key = streams.subkeys(noise_key, step)
    shapes = [(program.batch_size, program.input_dim), *program.hidden_shapes]
    strengths = [(r.input_noise, r.input_dropout), *[(r.hidden_noise, r.dropout)] * len(program.hidden_shapes)]
    return [
        regularizers.perturbation(
            streams.subkeys(step_key, place),
            torch.tensor([noise], dtype=program.dtype) if noise else None,
            torch.tensor([rate], dtype=program.dtype) if rate else None,
            shape,
            program.dtype,
        )
        for place, ((noise, rate), shape) in enumerate(zip(strengths, shapes, strict=True))
    ]


def _forward(model: nn.Module, x: Tensor, places: list[Perturbation]) -> Tensor:
    """An MLP again, layer by layer; a network that we don't know is asked."""
    if not isinstance(model, models.MLP):
        hidden = {"hidden": lambda h, layer: regularizers.applied(places[layer], h[None])[0]} if any(places) else {}
        logits: Tensor = model(x, **hidden)
        return logits
    *layers, readout = model.layers
    for layer, place in zip(layers, places, strict=True):
        x = regularizers.applied(place, model.activation(layer(x))[None])[0]
    read: Tensor = readout(x)
    return read
