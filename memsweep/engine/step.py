"""One optimizer step of all members at once: gather the batch, forward, backward, regularizers, update.

Tensors in, tensors out, and nothing of a single member on the way, so that the whole can be compiled.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor
from torch.func import functional_call, grad_and_value, vmap

from memsweep.engine import optim, streams
from memsweep.engine.optim import Tensors
from memsweep.engine.program import Program
from memsweep.engine.regularizers import Perturbation, applied, cross_entropy, perturbation
from memsweep.engine.state import State, rows_of


class Batch(NamedTuple):
    """What one step needs to know that the state does not say."""

    rows: Tensor  # [M, B] int64, examples of each member
    rate: Tensor  # [M], learning rates
    keys: Tensor  # [M] int64, of the step's noise and dropout
    number: Tensor  # [M] float64, steps trained, this one included


def train_step(program: Program, state: State, batch: Batch) -> Tensor:
    """Trains every member for one step, in place. Returns the norms of the gradients, [M]."""
    inputs, labels = _examples(program, state, batch)
    hidden = tuple(
        _perturbation(program, state, batch.keys, 1 + layer, ("hidden_noise", "dropout"), shape)
        for layer, shape in enumerate(program.hidden_shapes)
    )
    smoothing = {name: value for name, value in state.strengths.items() if name == "label_smoothing"}

    def member_loss(own: Tensors, x: Tensor, y: Tensor, smooth: Tensors, places: tuple[Perturbation, ...]) -> Tensor:
        changes = {"hidden": lambda h, layer: applied(places[layer], h)} if any(places) else {}
        logits = functional_call(program.module, own, (x,), changes)
        return cross_entropy(logits, y, smooth.get("label_smoothing"))

    # each member's own mean, never averaged over members: that would divide every gradient by M
    gradients, _ = vmap(grad_and_value(member_loss))(state.parameters, inputs, labels, smoothing, hidden)
    norms = optim.gradient_norms(gradients)
    coefficients = state.coefficients._replace(rate=batch.rate)
    if "clip" in program.uses:
        optim.clip_(gradients, norms, coefficients.clip)
    if program.optimizer == "sgd":
        optim.sgd_(state.parameters, gradients, state.moments, coefficients)
    else:
        optim.adamw_(state.parameters, gradients, state.moments, coefficients, batch.number)
    return norms


def _examples(program: Program, state: State, batch: Batch) -> tuple[Tensor, Tensor]:
    """Inputs [M, B, D], noisy where asked, and given labels [M, B]."""
    e = state.examples
    inputs = rows_of(e.bank, e.offset[:, None] + batch.rows)
    noise = _perturbation(program, state, batch.keys, 0, ("input_noise", "input_dropout"), inputs.shape[1:])
    return applied(noise, inputs), e.given.gather(1, batch.rows)


def _perturbation(
    program: Program, state: State, keys: Tensor, place: int, names: tuple[str, str], shape: tuple[int, ...]
) -> Perturbation:
    """What noise and dropout of these names do at a place (0: inputs, 1 on: hidden layers); shape without M."""
    deviation, rate = (state.strengths.get(name) for name in names)
    if deviation is None and rate is None:
        return {}
    return perturbation(streams.subkeys(keys, place), deviation, rate, shape, program.dtype)
