"""The same training in plain torch.nn and torch.optim, one trial at a time, as the reference of the packed engine.

It shares with the engine only the order of examples and the random numbers of regularizers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import swa_utils

from memsweep.data import sequences, tasks
from memsweep.engine import adversarial
from memsweep.engine.nn import member_fields, models, regularizers
from memsweep.engine.nn.regularizers import Perturbation
from memsweep.engine.nn.sequence_models import Recurrent
from memsweep.engine.train import own_optimizers, plain_optimizers, streams, trainer
from memsweep.engine.train.program import Program, own_loss
from memsweep.spec.config import TrialConfig, imported
from memsweep.spec.fields.own import bound
from memsweep.spec.options import FAMILIES
from memsweep.spec.seeds import key


def train(trial: TrialConfig, steps: int, device: str | torch.device = "cpu") -> tuple[nn.Module, list[float]]:
    """Returns the module after `steps` steps, with averaged weights if configured, and the norms of the gradients."""
    program = trainer.compose([trial])
    trainer.set_precision(program)
    state = trainer.init(program, [trial])
    order = trainer.batches(program, state, steps)[:, 0].to(device)
    data, r, o = tasks.load(trial), trial.regularization, trial.optimizer
    model = models.build(trial, program.input_dim, program.classes).train().to(device)
    inputs, wanted = torch.tensor(data.inputs).to(device, program.dtype), torch.tensor(data.labels, device=device)
    if program.form.kind != "label":
        wanted = torch.tensor(data.targets).to(device, program.dtype if program.form.kind == "values" else torch.int64)
    weights = torch.tensor(data.weights).to(device, program.dtype) if len(data.weights) else None
    optimizers = plain_optimizers.optimizers(model, trial)
    averaged = None
    if o.averaging:
        averaged = swa_utils.AveragedModel(model, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(o.averaging))
    norms = []
    for step in range(steps):
        for optimizer in optimizers:
            rate = o.learning_rate * trial.rate_factor(step)
            own_optimizers.set_rate(optimizer, rate)
            for group in optimizer.param_groups if trial.model.parametrization == "mup" else ():
                group["lr"] = rate * group.get("factor", 1.0)  # without factors at model.base_width
        step_key = _step_key(trial, step).to(device)
        places = _places(trial, program, step_key)
        x, y = regularizers.applied(places[0], inputs[order[step]][None])[0], wanted[order[step]]
        attacked = _critical_samples(trial, model, x, step_key, data.input_range) if r.adversarial else None
        if trial.model.family not in FAMILIES or own_optimizers.is_own(o.name):
            torch.manual_seed(int(step_key))
        weighted = None if weights is None else weights[order[step]]
        backward = partial(_backward, model, trial, x, y, places[1:], attacked, weighted)
        backward()
        if o.name == "sam":
            plain_optimizers.gradients_nearby(model, backward, o.radius)
        norms.append(float(nn.utils.clip_grad_norm_(model.parameters(), o.clip or float("inf"))))
        for optimizer in optimizers:
            optimizer.step()
        if averaged:
            averaged.update_parameters(model)
    return averaged.module if averaged else model, norms


def _backward(
    model: nn.Module,
    trial: TrialConfig,
    x: Tensor,
    y: Tensor,
    hidden: list[Perturbation],
    attacked: Tensor | None,
    weights: Tensor | None,
) -> None:
    """Replaces the model's gradients by those of its loss."""
    model.zero_grad()
    _loss(model, trial, x, y, hidden, attacked, weights).backward()


def _loss(
    model: nn.Module,
    trial: TrialConfig,
    x: Tensor,
    y: Tensor,
    hidden: list[Perturbation],
    attacked: Tensor | None,
    weights: Tensor | None,
) -> Tensor:
    r = trial.regularization
    forward = partial(_forward, model, places=hidden)
    logits = _cast(trial, forward, x)
    fields = member_fields.of_trial(trial, x.device)
    if (function := own_loss(trial, fields)) is not None:
        losses = function(logits, y, x)
        loss = (losses if weights is None else weights * losses).mean()
    elif trial.optimizer.objective == "squared":
        loss = _squared(logits, functional.one_hot(y, logits.shape[1]).to(logits.dtype), weights)
    else:
        loss = _task_loss(logits, y, r.label_smoothing, weights)
    if attacked is not None:
        other = _task_loss(_cast(trial, forward, attacked), y, r.label_smoothing, weights)
        loss = (1 - r.adversarial) * loss + r.adversarial * other
    if r.penalty_strength:
        loss = loss + r.penalty_strength * bound(imported(r.penalty), fields)(dict(model.named_parameters()), x, logits)
    return loss


def _task_loss(answers: Tensor, wanted: Tensor, smoothing: float, weights: Tensor | None) -> Tensor:
    """Loss for labels [B], tokens [B, L] or numbers [B, L O].  weights: [B]; None: all are 1."""
    if wanted.is_floating_point():
        return _squared(answers.flatten(1), wanted, weights)
    if weights is not None:
        return (weights * functional.cross_entropy(answers, wanted, label_smoothing=smoothing, reduction="none")).mean()
    return functional.cross_entropy(
        answers.flatten(0, -2), wanted.flatten(), label_smoothing=smoothing, ignore_index=sequences.NOT_ASKED
    )


def _squared(answers: Tensor, wanted: Tensor, weights: Tensor | None) -> Tensor:
    if weights is None:
        return functional.mse_loss(answers, wanted)
    return (weights * functional.mse_loss(answers, wanted, reduction="none").mean(1)).mean()


def _step_key(trial: TrialConfig, step: int) -> Tensor:
    """Key of one step's random numbers, [1] int64."""
    return streams.subkeys(torch.tensor([key(trial.stream_seed("order"), "order/noise")]), step)


def _critical_samples(
    trial: TrialConfig, model: nn.Module, inputs: Tensor, step_key: Tensor, input_range: float
) -> Tensor:
    """LASS as in the paper, [B, D]: the first place in the box with a different prediction, or the input."""
    forward = partial(_cast, trial, model)
    keys = streams.subkeys(step_key, adversarial.ATTACK)
    model.eval()
    with torch.no_grad():
        reference = forward(inputs).argmax(1)
    moved, samples, unhit = inputs.clone(), inputs.clone(), torch.ones_like(reference, dtype=torch.bool)
    radius = adversarial.RADIUS * input_range
    for i in range(adversarial.TRAINING_ITERATIONS):
        x = moved.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(functional.cross_entropy(forward(x), reference), x)
        noise = streams.normal(streams.subkeys(keys, i), inputs.numel()).view(inputs.shape).to(inputs.dtype)
        moved = moved + input_range * (adversarial.ALPHA * gradient.sign() + adversarial.BETA * noise)
        moved = moved.clamp(inputs - radius, inputs + radius)
        with torch.no_grad():
            hit = (forward(moved).argmax(1) != reference) & unhit
        samples[hit], unhit = moved[hit], unhit & ~hit
    model.train()
    return samples


def _places(trial: TrialConfig, program: Program, step_key: Tensor) -> list[Perturbation]:
    """Noise and dropout of one step: at the inputs, then at each hidden layer."""
    r = trial.regularization
    shapes = [(program.batch_size, program.input_dim), *program.hidden_shapes]
    strengths = [(r.input_noise, r.input_dropout), *[(r.hidden_noise, r.dropout)] * len(program.hidden_shapes)]
    return [
        regularizers.perturbation(
            streams.subkeys(step_key, place),
            torch.tensor([noise], dtype=program.dtype, device=step_key.device) if noise else None,
            torch.tensor([rate], dtype=program.dtype, device=step_key.device) if rate else None,
            shape,
            program.dtype,
        )
        for place, ((noise, rate), shape) in enumerate(zip(strengths, shapes, strict=True))
    ]


def _cast(trial: TrialConfig, forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """A forward pass, under torch.autocast if configured."""
    with torch.autocast(x.device.type, torch.bfloat16, enabled=trial.compute.autocast == "bfloat16"):
        return forward(x).to(x.dtype)


def _forward(model: nn.Module, x: Tensor, places: list[Perturbation]) -> Tensor:
    """The forward pass: an MLP layer by layer, recurrent layers step by step, other networks by their forward."""
    hidden = {"hidden": lambda h, layer: regularizers.applied(places[layer], h[None])[0]} if any(places) else {}
    if isinstance(model, Recurrent):
        return model.answers(model.outputs_by_steps(x, **hidden))
    if not isinstance(model, models.MLP):
        logits: Tensor = model(x, **hidden)
        return logits
    *layers, readout = model.layers
    for number, (layer, place) in enumerate(zip(layers, places, strict=True)):
        h = model.norms[number](layer(x)) if model.norms else layer(x)
        x = regularizers.applied(place, model.activation(h)[None])[0]
    read: Tensor = readout(x)
    return read
