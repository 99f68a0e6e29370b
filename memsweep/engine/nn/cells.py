"""Recurrent cells of one member: parameters, first weights, a layer through time, and one step in plain torch.

tanh and ReLU RNN, LSTM (Hochreiter & Schmidhuber 1997), GRU (Cho et al. 2014, as in torch.nn.GRU), UGRNN (Collins
et al. 2017), and PRU-style cells (reconstructed). Of the persistent recurrent units of Choi (2018) only the abstract
could be read: pru_a to pru_d and their plus layers are our reading of it, not the paper's equations.
`scan.py` runs a layer through time; `Cell.step` is the same in plain torch, as the reference of its tests.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from memsweep.engine.nn.scan import Spec, Weights, scan
from memsweep.spec.fields.groups import Model

Gate = Callable[[Tensor], Tensor]


class Kind(NamedTuple):
    """Structure of a cell. Pre-activations come in blocks of H rows, recurrent blocks first."""

    update: str  # the elementwise part, one of updates.UPDATES
    blocks: int  # G
    recurrent: int  # R, blocks that read the fed-back output
    keeps: int | None = None  # the block of the gate that keeps the state; its bias starts at model.gate_bias


KINDS: dict[str, Kind] = {
    "rnn": Kind("tanh", 1, 1),
    "irnn": Kind("relu", 1, 1),
    "ugrnn": Kind("ugrnn", 2, 2, keeps=0),
    "gru": Kind("gru", 3, 3, keeps=1),
    "lstm": Kind("lstm", 4, 4, keeps=1),
    "pru_a": Kind("lstm", 4, 3, keeps=1),
    "pru_b": Kind("lstm", 4, 0, keeps=1),
    "pru_c": Kind("lstm", 4, 3, keeps=1),
    "pru_d": Kind("pru_d", 3, 2, keeps=1),
}
"""Blocks: i f o g of lstm and pru_a to pru_c, i f g of pru_d, r z n of gru, g c of ugrnn."""


class Carried(NamedTuple):
    """What one step passes to the next, each [B, H]."""

    fed: Tensor  # input of recurrent blocks: the output h, or y for plus_state
    output: Tensor  # h
    state: Tensor  # c of lstm-like cells, else h


class Cell(nn.Module):
    """One layer. A cell is named by its kind, and `+plus_...` for what Choi (2018) adds to it (reconstructed).

    weight [G H, m], recurrent [R H, H], bias [G H].  pru_c: peephole [H], the vector v.
    plus_out, plus_state: y = tanh(plus(h)) is the layer's output; with plus_state the gates read y instead of h.
    plus_cand: the candidate reads relu(plus(x)) instead of x, by the matrix candidate [H, H]; weight lacks its block.
    """

    def __init__(self, model: Model, input_dim: int):
        super().__init__()
        self.name, _, self.plus_name = model.cell.partition("+")
        self.kind, width = KINDS[self.name], model.width
        self.width = width
        blocks = self.kind.blocks - (self.plus_name == "plus_cand")
        self.weight = nn.Parameter(torch.empty(blocks * width, input_dim))
        self.bias = nn.Parameter(torch.zeros(self.kind.blocks * width))
        if self.kind.recurrent:
            self.recurrent = nn.Parameter(torch.empty(self.kind.recurrent * width, width))
        if self.name == "pru_c":
            self.peephole = nn.Parameter(torch.ones(width))
        if self.plus_name:
            self.plus = nn.Linear(input_dim if self.plus_name == "plus_cand" else width, width)
        if self.plus_name == "plus_cand":
            self.candidate = nn.Parameter(torch.empty(width, width))
        self._initialize(model.gate_bias)

    @torch.no_grad()
    def _initialize(self, gate_bias: float) -> None:
        """Glorot's uniform weights, orthogonal recurrent weights (identity for irnn), zero biases except a gate's.

        As reconstructed for Choi (2018); Le et al. (2015) for irnn.
        """
        for block in self.weight.split(self.width):
            nn.init.xavier_uniform_(block)
        for block in self.recurrent.split(self.width) if self.kind.recurrent else ():
            if self.name == "irnn":
                nn.init.eye_(block)
            else:
                nn.init.orthogonal_(block)
        if self.kind.keeps is not None:
            self.bias.split(self.width)[self.kind.keeps].fill_(gate_bias)
        if self.plus_name:
            nn.init.xavier_uniform_(self.plus.weight)
            nn.init.zeros_(self.plus.bias)
        if self.plus_name == "plus_cand":
            nn.init.xavier_uniform_(self.candidate)

    def forward(self, inputs: Tensor, steps: int, truncation: int = 0, *, is_first: bool = False) -> Tensor:
        """Returns the layer's output at each of T steps, [T, H, B].

        inputs: [S, m, B], of the first S steps; zeros at the others.  truncation: as in the trial's `optimizer`.
        is_first: the gradient of the inputs is not needed.
        """
        empty = self.bias[:0]
        weight, has_plus_state = self.weight, self.plus_name == "plus_state"
        if self.plus_name == "plus_cand":
            inputs = torch.cat([inputs, inputs.new_zeros(steps - len(inputs), *inputs.shape[1:])])
            inner = torch.relu(self.plus.weight @ inputs + self.plus.bias[:, None])
            weight = torch.block_diag(weight, self.candidate)
            inputs, is_first = torch.cat([inputs, inner], dim=1), False
        weights = Weights(
            weight,
            self.recurrent if self.kind.recurrent else empty.view(0, self.width),
            self.bias,
            getattr(self, "peephole", empty),
            *((self.plus.weight, self.plus.bias) if has_plus_state else (empty, empty)),
        )
        spec = Spec(
            self.kind.update,
            self.width,
            steps,
            len(inputs),
            self.kind.recurrent,
            truncation,
            reads_gradient=not is_first,
        )
        outputs = scan(spec, inputs, weights)
        if self.plus_name == "plus_out":
            return torch.tanh(self.plus.weight @ outputs + self.plus.bias[:, None])
        return outputs

    @property
    def has_kernel(self) -> bool:
        """Returns whether the library has a kernel for this cell, for `by_kernel`."""
        return self.name in KERNELS and not self.plus_name

    def by_kernel(self, inputs: Tensor, steps: int, truncation: int = 0) -> Tensor:
        """Returns the same as forward, by the library's kernel, for a member that is not lifted."""
        kernel = _kernel(self.name, inputs.shape[1], self.width)
        order = _KERNEL_ORDER.get(self.name, range(self.kind.blocks))
        numbers = {}
        for name, value in (("weight_ih", self.weight), ("weight_hh", self.recurrent), ("bias_ih", self.bias)):
            blocks = value.split(self.width)
            numbers[f"{name}_l0"] = torch.cat([blocks[i] for i in order])
        numbers["bias_hh_l0"] = torch.zeros_like(self.bias)
        x = torch.cat([inputs, inputs.new_zeros(steps - len(inputs), *inputs.shape[1:])]).mT
        outputs, state = [], None
        for chunk in x.split(truncation or steps):
            output, state = functional_call(kernel, numbers, (chunk, state))
            state = tuple(value.detach() for value in state) if isinstance(state, tuple) else state.detach()
            outputs.append(output)
        return torch.cat(outputs).mT

    def first(self, batch: int) -> Carried:
        """Returns the values carried into the first step: zeros."""
        zero = self.bias.new_zeros(batch, self.width)
        return Carried(zero, zero, zero)

    def step(self, inputs: Tensor, carried: Carried, gate: Gate = torch.sigmoid) -> tuple[Tensor, Carried]:
        """Runs one step.  inputs: [B, m].  gate: function from pre-activations to gates.

        Returns the layer's output [B, H] and the values carried to the next step.
        """
        read = list(functional.linear(inputs, self.weight).split(self.width, 1))
        if self.plus_name == "plus_cand":
            read.append(functional.linear(torch.relu(self.plus(inputs)), self.candidate))
        read = [block + bias for block, bias in zip(read, self.bias.split(self.width), strict=True)]
        fed = [carried.fed @ matrix.T for matrix in self.recurrent.split(self.width)] if self.kind.recurrent else []
        if hasattr(self, "peephole"):
            read[-1] = read[-1] + self.peephole * carried.output
        output, state = _STEPS[self.kind.update](read, fed, carried.state, gate)
        y = torch.tanh(self.plus(output)) if self.plus_name in ("plus_out", "plus_state") else output
        return y, Carried(y if self.plus_name == "plus_state" else output, output, state)


KERNELS: dict[str, Callable[..., nn.RNNBase]] = {
    "rnn": nn.RNN,
    "irnn": partial(nn.RNN, nonlinearity="relu"),
    "gru": nn.GRU,
    "lstm": nn.LSTM,
}
_KERNEL_ORDER = {"lstm": (0, 1, 3, 2)}
"""The library's blocks by our index: i f g o, of i f o g."""


@lru_cache(maxsize=64)
def _kernel(name: str, input_dim: int, width: int) -> nn.RNNBase:
    """A layer of the library; its own numbers are not used."""
    return KERNELS[name](input_dim, width)


Blocks = list[Tensor]


def _summed(read: Blocks, fed: Blocks) -> Blocks:
    """Pre-activations: contributions of the inputs, plus those of the fed-back output in recurrent blocks."""
    return [a + b for a, b in zip(read, fed, strict=False)] + read[len(fed) :]


def _lstm(read: Blocks, fed: Blocks, c: Tensor, gate: Gate) -> tuple[Tensor, Tensor]:
    i, f, o, g = _summed(read, fed)
    c = gate(f) * c + gate(i) * torch.tanh(g)
    return gate(o) * torch.tanh(c), c


def _pru_d(read: Blocks, fed: Blocks, h: Tensor, gate: Gate) -> tuple[Tensor, Tensor]:
    i, f, g = _summed(read, fed)
    h = gate(f) * h + gate(i) * torch.tanh(g)
    return h, h


def _ugrnn(read: Blocks, fed: Blocks, h: Tensor, gate: Gate) -> tuple[Tensor, Tensor]:
    g, c = _summed(read, fed)
    h = gate(g) * h + (1 - gate(g)) * torch.tanh(c)
    return h, h


def _gru(read: Blocks, fed: Blocks, h: Tensor, gate: Gate) -> tuple[Tensor, Tensor]:
    r, z = (gate(block) for block in _summed(read[:2], fed[:2]))
    h = z * h + (1 - z) * torch.tanh(read[2] + r * fed[2])
    return h, h


def _tanh(read: Blocks, fed: Blocks, h: Tensor, _gate: Gate) -> tuple[Tensor, Tensor]:
    h = torch.tanh(read[0] + fed[0])
    return h, h


def _relu(read: Blocks, fed: Blocks, h: Tensor, _gate: Gate) -> tuple[Tensor, Tensor]:
    h = torch.relu(read[0] + fed[0])
    return h, h


_STEPS: dict[str, Callable[[Blocks, Blocks, Tensor, Gate], tuple[Tensor, Tensor]]] = {
    "lstm": _lstm,
    "pru_d": _pru_d,
    "ugrnn": _ugrnn,
    "gru": _gru,
    "tanh": _tanh,
    "relu": _relu,
}
