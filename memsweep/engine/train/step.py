"""One optimizer step of all members at once: gather the batch, forward, backward, regularizers, update.

Works only on tensors of all members, so that the whole step can be compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import vmap

from memsweep.engine import adversarial
from memsweep.engine.nn import models
from memsweep.engine.nn.losses import answer_loss, mean_loss
from memsweep.engine.nn.member_fields import completed, lifted
from memsweep.engine.nn.regularizers import Perturbation, applied, perturbation
from memsweep.engine.train import draws, optim, own_optimizers, streams
from memsweep.engine.train.flat import Flat
from memsweep.engine.train.lifting import call, lifted_gradient, under_autocast
from memsweep.engine.train.optim import Tensors
from memsweep.engine.train.program import Program
from memsweep.engine.train.state import State, map_tensors, rows_of


class Batch(NamedTuple):
    """One step's inputs besides the state."""

    rows: Tensor  # [M, B] int64, examples of each member
    labels: Tensor  # [M, B] int64, given to these examples; [M, 0] where the task has other targets
    rate: Tensor  # [M], learning rates
    keys: Tensor  # [M] int64, of the step's noise and dropout
    corrections: Tensor  # [M, 2] float64, of Adam's moments, which begin at zero; read by optim.CORRECTED alone
    shares: Tensor  # [M], of the new weights in the average; 1: the average is the new weights


class Sample(NamedTuple):
    """Inputs of a member's loss; without M under vmap and for a single member."""

    inputs: Tensor  # [M, B, D], as the network reads them
    wanted: Tensor  # [M, B] labels, [M, B, L] tokens or [M, B, L O] numbers
    hidden: tuple[Perturbation, ...]  # of each hidden layer
    strengths: Tensors  # regularizer -> [M]
    own: Tensors  # own hyperparameter of `members` -> [M]
    weights: Tensors  # "weights": [M, B], of the examples' losses; empty without weights
    critical: Tensors  # "inputs": [M, B, D], critical samples; empty without adversarial training
    drawn: tuple[Tensor, ...]  # by a user's module itself, in the order of its draws; in the mode `serial` it draws


class Places(NamedTuple):
    """Where a module has its numbers, looked up once for many members."""

    parameters: dict[str, nn.Parameter]
    trained: dict[str, nn.Parameter]
    replaceable: tuple[tuple[str, dict[str, Any], str], ...]
    """Buffers and frozen parameters: name in the state, the dict of the sub-module that has it, name there."""


class Alone(NamedTuple):
    """A module that uses the numbers of one member."""

    places: Places
    flat: Flat | None = None
    """Memory of the state's parameters, where one operation updates all of them."""


def train_step(
    program: Program, state: State, batch: Batch, alone: Alone | None = None, *, is_last: bool = True
) -> Tensor | None:
    """Trains every member for one step, in place. Returns the norms of the gradients, [M]; None if nothing needs them.

    alone: in the mode `serial`, what `hold` returned for the one member of the state.  is_last: the norms are wanted.
    """
    inputs, wanted, weights = _examples(program, state, batch)
    hidden = tuple(
        _perturbation(program, state, batch.keys, 1 + layer, ("hidden_noise", "dropout"), shape)
        for layer, shape in enumerate(program.hidden_shapes)
    )
    critical = {}
    if "adversarial" in program.uses:
        critical["inputs"] = adversarial.training_inputs(program, state, inputs, batch.keys)
    first, nearby = _drawn(program, batch.keys, forwards=1 + bool(critical))
    sample = Sample(inputs, wanted, hidden, state.strengths, state.own, weights, critical, first)
    # losses are means per member, not over members, which would divide every gradient by M
    gradients = _gradients(program, state, sample, alone)
    if program.optimizer == "sam":
        gradients = _gradients_nearby(program, state, sample._replace(drawn=nearby), gradients, alone)
    coefficients = state.coefficients._replace(rate=batch.rate)
    norms = None
    if is_last or "clip" in program.uses:
        norms = optim.gradient_norms(gradients)
    if norms is not None and "clip" in program.uses:
        optim.clip_(gradients, norms, coefficients.clip)
    flat = None if alone is None else alone.flat
    _update(program, state, gradients, coefficients, batch.corrections, flat)
    for name, average in state.averages.items():
        average.lerp_(state.parameters[name], batch.shares.view(-1, *[1] * (average.dim() - 1)))
    return norms


def _update(
    program: Program,
    state: State,
    gradients: Tensors,
    coefficients: optim.Coefficients,
    corrections: Tensor,
    flat: Flat | None,
) -> None:
    """Moves the parameters in place, those with the same factor of the rate together."""
    if flat is not None:
        wholes = {"": flat.parameters}, {"": flat.gradients}
        moments = {name: {"": whole} for name, whole in flat.moments.items()}
        optim.update_(program.optimizer, *wholes, moments, coefficients, corrections)
        return
    if program.has_objects:
        (member,), (step,) = state.members, state.step.tolist()
        assert member.optimizer is not None
        rate = member.trial.optimizer.learning_rate * member.trial.rate_factor(step)  # not rounded to the dtype
        own_optimizers.update_(member.optimizer, state.parameters, gradients, rate)
        return
    if program.pair is not None:
        _pure_update_(program, state, gradients, coefficients.rate)
        return
    if not program.rate_factors:
        optim.update_(program.optimizer, state.parameters, gradients, state.moments, coefficients, corrections)
        return
    for factor in dict.fromkeys(factor for _, factor in program.rate_factors):
        names = {name for name, own_factor in program.rate_factors if own_factor == factor}
        parameters, *parts = (
            {name: value for name, value in tensors.items() if name in names}
            for tensors in (state.parameters, *state.moments.values())
        )
        scaled = coefficients._replace(rate=coefficients.rate * factor)
        moments = dict(zip(state.moments, parts, strict=True))
        optim.update_(program.optimizer, parameters, gradients, moments, scaled, corrections)


def _pure_update_(program: Program, state: State, gradients: Tensors, rate: Tensor) -> None:
    """Applies one step of a user's pair of functions, in place."""
    assert program.pair is not None
    update, given = lifted(program.pair.update), (state.own, gradients, state.moments, state.parameters, rate)
    if program.mode == "serial":
        parameters, moments = update(*map_tensors(lambda tensor: tensor[0], given))
        parameters, moments = map_tensors(lambda tensor: tensor[None], (parameters, moments))
    else:
        parameters, moments = vmap(update)(*given)
    map_tensors(lambda old, new: old.copy_(new), (state.parameters, state.moments), (parameters, moments))


def _drawn(program: Program, keys: Tensor, forwards: int) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """The numbers that a user's module draws itself, for the first gradient of a step and for SAM's second.

    In the mode `serial` the module draws them, from torch's generator, which is seeded here, as for a user's optimizer.
    """
    if program.mode == "serial":
        if program.is_own or program.has_objects:
            draws.seed(int(keys[0]), program.device)
        return (), ()
    gradients = 2 if program.optimizer == "sam" else 1
    numbers = draws.drawn(program.draws, keys, gradients * forwards, program.device)
    size = forwards * len(program.draws.each)
    return numbers[:size], numbers[size:]


def places(module: nn.Module, buffers: Iterable[str]) -> Places:
    """Returns where a module has its numbers.  buffers: names of buffers and frozen parameters in the state."""
    replaceable = []
    for name in buffers:
        path, _, last = name.rpartition(".")
        part = module.get_submodule(path)
        replaceable.append((name, part._buffers if last in part._buffers else part._parameters, last))
    return Places(dict(module.named_parameters()), models.trained(module), tuple(replaceable))


def hold(places: Places, one: State, flat: Flat | None = None) -> Alone:
    """Makes a module use the numbers of a state of one member, in the same memory; returns the module as that member's.

    flat: memory of the state's parameters and moments.
    """
    for name, parameter in places.trained.items():
        parameter.data = one.parameters[name][0]
    _hold_buffers(places, one)
    return Alone(places, flat)


def _hold_buffers(places: Places, one: State) -> None:
    """Makes a module use the state's buffers and frozen parameters, each by a tensor of its own."""
    used = set[int]()
    for name, numbers, last in places.replaceable:
        if id(numbers[last]) in used:  # the module gave a tensor two names
            other = numbers[last].detach()
            is_parameter = isinstance(numbers[last], nn.Parameter)
            numbers[last] = nn.Parameter(other, requires_grad=False) if is_parameter else other
        used.add(id(numbers[last]))
        numbers[last].data = one.buffers[name][0]


def release(alone: Alone, one: State) -> None:
    """Moves buffers, or frozen parameters, that the module replaced instead of changing in place, into the state."""
    replaced = [
        (name, numbers, last)
        for name, numbers, last in alone.places.replaceable
        if numbers[last].data_ptr() != one.buffers[name].data_ptr()
    ]
    # cloned first, because a module may give a buffer the memory of another
    values = [numbers[last].clone() for _, numbers, last in replaced]
    for (name, _, _), value in zip(replaced, values, strict=True):
        _check_replaced(name, value, one.buffers[name][0])
        one.buffers[name][0].copy_(value)
    if replaced:
        _hold_buffers(alone.places, one)


def _check_replaced(name: str, value: Tensor, buffer: Tensor) -> None:
    """Raises TypeError if a module gives a buffer another type or shape, with which it alone would go on."""
    if value.dtype != buffer.dtype or value.shape != buffer.shape:
        raise TypeError(
            f"the buffer {name!r} was replaced by a tensor of {value.dtype} and shape {list(value.shape)}; it must "
            f"keep its {buffer.dtype} and shape {list(buffer.shape)}: convert the tensor before assigning it."
        )


def _gradients(program: Program, state: State, sample: Sample, alone: Alone | None) -> Tensors:
    return _lifted_gradients(program, state, sample) if alone is None else _gradients_alone(program, sample, alone)


def _gradients_nearby(
    program: Program, state: State, sample: Sample, gradients: Tensors, alone: Alone | None
) -> Tensors:
    """Gradients at w + radius * g / |g|, SAM's (Foret et al. 2021, equation 2); the state stays that of the first pass.

    The second pass uses the batch and the regularizers' random numbers of the first; numbers that a user's module draws
    itself are drawn anew. It leaves no trace in buffers, such as the means of a batch normalization.
    """
    if alone is not None:
        release(alone, state)
    kept = {name: value.clone() for name, value in {**state.parameters, **state.buffers}.items()}
    optim.ascend_(state.parameters, gradients, state.coefficients.radius)
    nearby = _gradients(program, state, sample, alone)
    if alone is not None:
        release(alone, state)
    for name, value in {**state.parameters, **state.buffers}.items():
        value.copy_(kept[name])
    return nearby


def _lifted_gradients(program: Program, state: State, sample: Sample) -> Tensors:
    def loss(parameters: Tensors, buffers: Tensors, sample: Sample) -> tuple[Tensor, Tensors]:
        numbers, drawn = {**parameters, **buffers}, iter(sample.drawn)

        def forward(inputs: Tensor, **changes: Any) -> Tensor:
            return call(program, program.module, numbers, inputs, drawn, **changes)

        value = member_loss(program, forward, {name: numbers[name] for name in program.names}, sample)
        for name, buffer in buffers.items():
            _check_replaced(name, numbers[name], buffer)
        return value, {name: numbers[name] for name in buffers}

    gradients, buffers = lifted_gradient(program, loss, state.parameters, state.buffers, sample)
    if program.is_own and len(buffers) > 1:  # a module may give a buffer the memory of another
        buffers = {name: value.clone() for name, value in buffers.items()}
    for name, value in buffers.items():
        state.buffers[name].copy_(value)
    return dict(gradients)


def _gradients_alone(program: Program, sample: Sample, alone: Alone) -> Tensors:
    every, trained = Tensors(alone.places.parameters), alone.places.trained
    forward = partial(under_autocast, program, program.module)
    loss = member_loss(program, forward, every, map_tensors(lambda tensor: tensor[0], sample))
    gradients = torch.autograd.grad(loss, list(trained.values()), materialize_grads=True)
    by_name = dict(zip(trained, gradients, strict=True))
    return {name: value[None] for name, value in by_name.items()} if alone.flat is None else alone.flat.filled(by_name)


def member_loss(program: Program, forward: Callable[..., Tensor], parameters: Tensors, sample: Sample) -> Tensor:
    """Returns one member's loss: of its task, partly on critical samples, plus a user's penalty."""

    def change(h: Tensor, layer: int) -> Tensor:
        return applied(sample.hidden[layer], h)

    def answer(answers: Tensor) -> Tensor:
        is_lifted = program.mode != "serial"
        return answer_loss(
            program.form, program.objective, answers, sample.wanted, smoothing, weights, is_lifted=is_lifted
        )

    changes = {"hidden": change} if any(sample.hidden) else {}
    smoothing, weights = sample.strengths.get("label_smoothing"), sample.weights.get("weights")
    logits = forward(sample.inputs, **changes)
    if program.loss is not None:
        losses: Tensor = completed(program.loss, sample.own)(logits, sample.wanted, sample.inputs)
        loss = mean_loss(losses, weights)  # the mean of a scalar is the scalar
    else:
        loss = answer(logits)
    if sample.critical:
        weight = sample.strengths["adversarial"]
        attacked = answer(forward(sample.critical["inputs"], **changes))
        loss = (1 - weight) * loss + weight * attacked
    if program.penalty is not None and "penalty_strength" in sample.strengths:
        penalty = completed(program.penalty, sample.own)
        loss = loss + sample.strengths["penalty_strength"] * penalty(parameters, sample.inputs, logits)
    return loss


def _examples(program: Program, state: State, batch: Batch) -> tuple[Tensor, Tensor, Tensors]:
    """Inputs [M, B, D], with noise if configured, their given labels [M, B] or targets, and their weights, if any."""
    e = state.examples
    rows = e.offset[:, None] + batch.rows
    inputs = rows_of(e.bank, rows)
    noise = _perturbation(program, state, batch.keys, 0, ("input_noise", "input_dropout"), inputs.shape[1:])
    wanted = batch.labels if program.form.kind == "label" else rows_of(e.targets, rows)
    weights = {"weights": e.weights.gather(1, batch.rows)} if program.form.has_weights else {}
    return applied(noise, inputs), wanted, weights


def _perturbation(
    program: Program, state: State, keys: Tensor, place: int, names: tuple[str, str], shape: tuple[int, ...]
) -> Perturbation:
    """Noise and dropout of these names at a place (0: inputs, from 1: hidden layers); shape without M."""
    deviation, rate = (state.strengths.get(name) for name in names)
    if deviation is None and rate is None:
        return {}
    return perturbation(streams.subkeys(keys, place), deviation, rate, shape, program.dtype)
