"""A recurrent layer through time, forward and backward by hand, for all members at once.

`torch.autograd` would keep a graph of every elementwise operation of every step, and `torch.compile` unrolls time, so
compiling takes longer for longer sequences. Here a step is a matrix product or two and some elementwise operations in
place, in buffers with the batch last, [members, rows, batch], where blocks of a pre-activation are contiguous. Under
`vmap` the members' products are one batched product. `cells.py` has the same steps in plain torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from memsweep.engine.nn.updates import UPDATES, Gradients, Step, tanh_, tanh_backward


@dataclass(frozen=True)  # not a tuple, which torch.func would flatten at each call
class Spec:
    """Constants of a layer."""

    update: str  # one of UPDATES
    width: int  # H
    steps: int  # T
    given: int  # steps with inputs, the first S steps
    recurrent: int  # blocks of pre-activations that read the fed-back output, R
    truncation: int = 0  # gradients do not pass steps that are multiples of it; 0: they pass all
    reads_gradient: bool = True  # whether the gradient of the inputs is needed


class Weights(NamedTuple):
    """Weights of all members; a weight that the cell does not have is empty, [M, 0]."""

    weight: Tensor  # [M, G H, m]
    recurrent: Tensor  # [M, R H, H]
    bias: Tensor  # [M, G H]
    peephole: Tensor  # [M, H]
    plus_weight: Tensor  # [M, H, H], of the fed-back output
    plus_bias: Tensor  # [M, H]


class Kept(NamedTuple):
    """Values kept for the backward pass, steps first."""

    read: Tensor  # [T + 1, M, H + m + 1, B]: fed-back output, inputs, ones
    gates: Tensor  # [T, M, G' H, B] of blocks that read all rows of `read`, activated
    others: Tensor  # [T, M, (G - G') H, B] of blocks that read only inputs, activated
    extra: Tensor  # [T, M, H, B]: tanh of the state for lstm, the recurrent part of the candidate for gru
    states: Tensor  # [T + 1, M, H, B]
    outputs: Tensor  # [T + 1, M, H, B], if they differ from the fed-back output, or a peephole reads them


def scan(spec: Spec, inputs: Tensor, weights: Weights) -> Tensor:
    """Returns the fed-back output of one member's layer, [T, H, B].  inputs: [S, m, B], of the first S steps.

    Weights are without M here. Differentiable by `torch.autograd`, also around `vmap`; not by `torch.func.grad`.
    """
    outputs: Tensor = _OneMember.apply(spec, inputs, *weights)  # type: ignore[no-untyped-call]
    return outputs


class _AllMembers(torch.autograd.Function):
    """(spec, inputs [S, M, m, B], *Weights) -> outputs [T, M, H, B]."""

    @staticmethod
    def forward(ctx: Any, spec: Spec, inputs: Tensor, *weights: Tensor) -> Tensor:
        outputs, *kept = _forward(spec, inputs, Weights(*weights))
        ctx.spec = spec
        ctx.save_for_backward(*weights, *kept)
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        count = len(Weights._fields)
        weights, kept = Weights(*ctx.saved_tensors[:count]), Kept(*ctx.saved_tensors[count:])
        inputs, *gradients = _backward(ctx.spec, gradient, weights, kept)
        return None, inputs if ctx.spec.reads_gradient else None, *gradients


class _OneMember(torch.autograd.Function):
    """The layer of one member; under vmap, `_AllMembers`.

    Without vmap, which is rare, the backward pass repeats the forward pass instead of keeping its values.
    """

    @staticmethod
    def forward(spec: Spec, inputs: Tensor, *weights: Tensor) -> Tensor:
        return _forward(spec, inputs[:, None], Weights(*(value[None] for value in weights)))[0].squeeze(1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.spec = inputs[0]
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        inputs, *weights = (value.detach() for value in ctx.saved_tensors)
        all_of = Weights(*(value[None] for value in weights))
        _, *kept = _forward(ctx.spec, inputs[:, None], all_of)
        of_inputs, *gradients = _backward(ctx.spec, gradient[:, None], all_of, Kept(*kept))
        return (
            None,
            of_inputs.squeeze(1) if ctx.spec.reads_gradient else None,
            *(value.squeeze(0) for value in gradients),
        )

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], spec: Spec, inputs: Tensor, *weights: Tensor
    ) -> tuple[Tensor, int]:
        size = info.batch_size
        placed = [_placed(value, dim, 0, size) for value, dim in zip(weights, in_dims[2:], strict=True)]
        return _AllMembers.apply(spec, _placed(inputs, in_dims[1], 1, size), *placed), 1  # type: ignore[no-untyped-call]


def _placed(value: Tensor, dim: int | None, at: int, size: int) -> Tensor:
    """The value with its member axis at position `at`."""
    if dim is None:
        return value.unsqueeze(at).expand(*value.shape[:at], size, *value.shape[at:])
    return value.movedim(dim, at)


class _Matrices(NamedTuple):
    """Weights as matrices for the products; their columns are the rows of `Kept.read`."""

    gates: Tensor  # [M, G' H, H + m + 1], of blocks whose pre-activation is one sum over all rows of `read`
    others: Tensor  # [M, (G - G') H, m + 1]
    candidate: Tensor  # [M, H, H], recurrent part of gru's candidate, multiplied by the gate r


def _matrices(spec: Spec, weights: Weights) -> _Matrices:
    w, rows = weights, (spec.recurrent - (spec.update == "gru")) * spec.width
    bias = w.bias[:, :, None]
    return _Matrices(
        torch.cat([w.recurrent[:, :rows], w.weight[:, :rows], bias[:, :rows]], dim=2),
        torch.cat([w.weight[:, rows:], bias[:, rows:]], dim=2),
        w.recurrent[:, rows:].contiguous(),
    )


def _forward(spec: Spec, inputs: Tensor, weights: Weights) -> tuple[Tensor, ...]:
    """Outputs [T, M, H, B] and `Kept`.  inputs: [S, M, m, B]."""
    _, members, features, batch = inputs.shape
    width, update, matrices = spec.width, UPDATES[spec.update], _matrices(spec, weights)
    has_plus, has_peephole = weights.plus_weight.numel() > 0, weights.peephole.numel() > 0

    def room(steps: int, rows: int) -> Tensor:
        return inputs.new_empty(steps, members, rows, batch)

    read = room(spec.steps + 1, width + features + 1)
    read[0, :, :width] = 0
    read[: spec.given, :, width:-1] = inputs
    read[spec.given :, :, width:-1] = 0
    read[:, :, -1] = 1
    kept = Kept(
        read,
        gates=room(spec.steps, matrices.gates.shape[1]),
        others=room(spec.steps, matrices.others.shape[1]),
        extra=room(spec.steps if update.has_extra else 0, width),
        states=room(spec.steps + 1, width),
        outputs=room(spec.steps + 1 if has_plus or has_peephole else 0, width),
    )
    kept.states[0] = 0
    kept.outputs[:1] = 0
    reads, inputs_read, feds = read.unbind(), read[:, :, width:].unbind(), read[:, :, :width].unbind()
    outputs = kept.outputs.unbind() or feds
    for t, step in enumerate(_steps(spec, kept, outputs[1:])):
        if matrices.gates.numel():
            torch.bmm(matrices.gates, reads[t], out=step.gates)
        if matrices.others.numel():
            torch.bmm(matrices.others, inputs_read[t], out=step.others)
        if matrices.candidate.numel():
            torch.bmm(matrices.candidate, feds[t], out=step.extra)
        if has_peephole:
            step.others.addcmul_(weights.peephole[:, :, None], outputs[t])
        update.forward(step)
        if has_plus:
            feds[t + 1].copy_(tanh_(torch.baddbmm(weights.plus_bias[:, :, None], weights.plus_weight, outputs[t + 1])))
        elif has_peephole:
            feds[t + 1].copy_(outputs[t + 1])
    return read[1:, :, :width].clone(), *kept


def _backward(spec: Spec, gradient: Tensor, weights: Weights, kept: Kept) -> tuple[Tensor, ...]:
    """Gradients of the inputs [S, M, m, B] and of `Weights`, from that of the outputs [T, M, H, B]."""
    _, members, width, batch = gradient.shape
    update, matrices = UPDATES[spec.update], _matrices(spec, weights)
    of_weights = Weights(*(torch.zeros_like(value) for value in weights))
    of_matrices = _Matrices(*(torch.zeros_like(matrix) for matrix in matrices))
    has_plus, has_peephole = weights.plus_weight.numel() > 0, weights.peephole.numel() > 0
    features = kept.read.shape[2] - width - 1
    of_inputs = gradient.new_zeros(spec.given if spec.reads_gradient else 0, members, features, batch)
    # transposed once, without the parts that no gradient passes
    gates_back = (matrices.gates[:, :, :-1] if spec.reads_gradient else matrices.gates[:, :, :width]).mT.contiguous()
    others_back, candidate_back, plus_back = (
        matrix.mT.contiguous() for matrix in (matrices.others[:, :, :-1], matrices.candidate, weights.plus_weight)
    )
    of = _room(spec, kept)
    of_fed: Tensor | None = None  # gradient from the next step
    of_output: Tensor | None = None  # gradient from the next step's peephole
    reads, inputs_read, feds = (
        rows.mT.unbind() for rows in (kept.read, kept.read[:, :, width:], kept.read[:, :, :width])
    )
    outputs = kept.outputs.unbind()
    steps = list(_steps(spec, kept, outputs[1:] or feds[1:]))
    gradients = gradient.unbind()
    for t in reversed(range(spec.steps)):
        total = gradients[t] if of_fed is None else gradients[t] + of_fed
        if has_plus:
            of_sum = tanh_backward(total, feds[t + 1].mT, grad_input=torch.empty_like(of.state))
            of_weights.plus_weight.baddbmm_(of_sum, outputs[t + 1].mT)
            of_weights.plus_bias.add_(of_sum.sum(2))
            total = torch.bmm(plus_back, of_sum)
        if of_output is not None:
            total = total + of_output
        update.backward(steps[t], total, of)
        of_fed = of_output = None
        if gates_back.numel():
            of_matrices.gates.baddbmm_(of.gates, reads[t])
            of_read = torch.bmm(gates_back, of.gates)
            of_fed = of_read[:, :width] if spec.reads_gradient else of_read
            if t < len(of_inputs):
                of_inputs[t].add_(of_read[:, width:])
        if others_back.numel():
            of_matrices.others.baddbmm_(of.others, inputs_read[t])
            if t < len(of_inputs):
                of_inputs[t].baddbmm_(others_back, of.others)
        if candidate_back.numel():
            of_matrices.candidate.baddbmm_(of.extra, feds[t])
            of_candidate = torch.bmm(candidate_back, of.extra)
            of_fed = of_candidate if of_fed is None else of_fed.add_(of_candidate)
        if has_peephole:
            of_weights.peephole.add_((of.others * outputs[t]).sum(2))
            of_output = of.others * weights.peephole[:, :, None]
        if spec.truncation and t % spec.truncation == 0:
            of.state.zero_()
            of_fed = of_output = None
    gates, others, candidate = of_matrices
    return of_inputs, *of_weights._replace(
        weight=torch.cat([gates[:, :, width:-1], others[:, :, :-1]], dim=1),
        recurrent=torch.cat([gates[:, :, :width], candidate], dim=1),
        bias=torch.cat([gates[:, :, -1], others[:, :, -1]], dim=1),
    )


def _room(spec: Spec, kept: Kept) -> Gradients:
    gates, others = torch.empty_like(kept.gates[0]), torch.empty_like(kept.others[0])
    state = torch.zeros_like(kept.states[0])
    sigmoids = _sigmoids(spec, gates, others)
    return Gradients(gates, others, _blocks(spec, gates, others), sigmoids, state, torch.empty_like(state))


def _steps(spec: Spec, kept: Kept, outputs: Sequence[Tensor]) -> Iterator[Step]:
    """All views that the steps need; creating them at once takes a tenth of the time."""
    blocks = zip(*(block.unbind() for block in _blocks(spec, kept.gates, kept.others)), strict=True)
    states, gates, others = kept.states.unbind(), kept.gates.unbind(), kept.others.unbind()
    sigmoids, extra = _sigmoids(spec, kept.gates, kept.others).unbind(), kept.extra.unbind() or outputs
    yield from map(Step, gates, others, blocks, sigmoids, states[:-1], states[1:], outputs, extra)


def _blocks(spec: Spec, *buffers: Tensor) -> tuple[Tensor, ...]:
    return tuple(block for rows in buffers if rows.numel() for block in rows.split(spec.width, -2))


def _sigmoids(spec: Spec, gates: Tensor, others: Tensor) -> Tensor:
    rows = gates if gates.numel() else others
    return rows[..., : UPDATES[spec.update].sigmoids * spec.width, :]
