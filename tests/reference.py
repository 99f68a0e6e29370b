"""The same training in plain torch.nn and torch.optim, one trial at a time: what the packed engine must equal.

It shares with the engine the order of examples and the random numbers of noise and dropout, and nothing else.
"""

import torch
from torch import nn
from torch.nn import functional

from memsweep.data import tasks
from memsweep.engine import models, regularizers, streams, trainer
from memsweep.seeds import key


def train(trial, steps):
    """The module after so many steps, and the norms of the gradients on the way."""
    program = trainer.compose([trial])
    state = trainer.init(program, [trial])
    order = trainer.batches(program, state, steps)[:, 0]
    data, r, o = tasks.load(trial), trial.regularization, trial.optimizer
    model = models.build(trial, program.input_dim, program.classes)
    inputs, labels = torch.tensor(data.inputs).to(program.dtype), torch.tensor(data.labels)
    optimizer = _optimizer(model, trial)
    norms = []
    for step in range(steps):
        passes = step * o.batch_size // trial.data.examples
        if o.schedule != "constant":
            _, every, factor = o.schedule.split(":")
            optimizer.param_groups[0]["lr"] = o.learning_rate * float(factor) ** (passes // int(every))
        places = _places(trial, program, step)
        x = regularizers.applied(places[0], inputs[order[step]][None])[0]
        optimizer.zero_grad()
        logits = _forward(model, x, places[1:])
        functional.cross_entropy(logits, labels[order[step]], label_smoothing=r.label_smoothing).backward()
        norms.append(float(nn.utils.clip_grad_norm_(model.parameters(), o.clip or float("inf"))))
        optimizer.step()
    return model, norms


def _optimizer(model, trial):
    o, decay = trial.optimizer, trial.regularization.weight_decay
    if o.name == "sgd":
        return torch.optim.SGD(
            model.parameters(), lr=o.learning_rate, momentum=o.momentum, weight_decay=decay, foreach=False
        )
    return torch.optim.AdamW(model.parameters(), lr=o.learning_rate, betas=o.betas, weight_decay=decay, foreach=False)


def _places(trial, program, step):
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


def _forward(model, x, places):
    """The MLP again, layer by layer."""
    *hidden, readout = model.layers
    for layer, place in zip(hidden, places, strict=True):
        x = regularizers.applied(place, model.activation(layer(x))[None])[0]
    return readout(x)
