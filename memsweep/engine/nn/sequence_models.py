"""Networks that read an example step by step: recurrent layers, and a small causal transformer."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from memsweep.data.form import Form
from memsweep.engine.nn import parametrization
from memsweep.engine.nn.cells import Carried, Cell, Gate
from memsweep.spec.fields.groups import Model

Hidden = Callable[[Tensor, int], Tensor]
"""Regularizer of hidden units: (activations, number of the layer) -> activations."""
ONE_HOT_TOKENS = 64
"""A recurrent layer reads up to this many tokens one-hot, m = V, as usual in copying tasks; beyond, embeddings."""
HEAD_UNITS = 16
"""Units of an attention head, if they divide the width; else there is one head."""


def unchanged(activations: Tensor, _layer: int) -> Tensor:
    """Returns the activations; the default for `hidden`."""
    return activations


class Recurrent(nn.Module):
    """`depth` layers of one cell, `width` units each, and a linear read-out of the last positions.

    Up to ONE_HOT_TOKENS tokens are read one-hot, else embedded in H dimensions.  forward: inputs [B, D] -> [B, K] for
    label tasks, else [B, L, O]; `hidden` is applied to each layer's outputs, [T, H, B].
    """

    library = False
    """Whether layers run by the library's kernels, where they exist: for a single member on a CPU."""

    def __init__(self, model: Model, form: Form, truncation: int = 0):
        super().__init__()
        self.form, self.truncation = form, truncation
        self.embeds = form.vocabulary > ONE_HOT_TOKENS
        first = form.vocabulary or form.features
        if self.embeds:
            self.embedding, first = nn.Embedding(form.vocabulary, model.width), model.width
        self.cells = nn.ModuleList(Cell(model, size) for size in [first, *[model.width] * (model.depth - 1)])
        self.readout = nn.Linear(model.width, form.outputs)

    def forward(self, inputs: Tensor, hidden: Hidden = unchanged) -> Tensor:
        """Returns the read-out of the last positions."""
        return self.answers(self.outputs(inputs, hidden))

    def outputs(self, inputs: Tensor, hidden: Hidden = unchanged) -> Tensor:
        """Returns the last layer's output at each step, [T, H, B]."""
        x = self._read(inputs)
        for number, cell in enumerate(self._layers()):
            if self.library and cell.has_kernel:
                x = cell.by_kernel(x, self.form.steps, self.truncation)
            else:
                # training needs no gradient of inputs; a search for critical samples does
                is_first = number == 0 and not self.embeds and self.training
                x = cell(x, self.form.steps, self.truncation, is_first=is_first)
            x = hidden(x, number)
        return x

    def outputs_by_steps(self, inputs: Tensor, hidden: Hidden = unchanged) -> Tensor:
        """Returns the same as `outputs`, in plain torch, a step at a time."""
        x = self._read(inputs)
        for number, cell in enumerate(self._layers()):
            x = hidden(torch.stack([y.T for y, _ in self._steps(cell, x)]), number)
        return x

    def carried(self, inputs: Tensor, gate: Gate) -> list[list[Carried]]:
        """Returns each layer's carried values at each step, in plain torch; gates are `gate` of pre-activations."""
        x, layers = self._read(inputs), []
        for cell in self._layers():
            outputs, handed = zip(*self._steps(cell, x, gate), strict=True)
            x = torch.stack([y.T for y in outputs])
            layers.append(list(handed))
        return layers

    def answers(self, outputs: Tensor) -> Tensor:
        """Returns the read-out of the last positions.  outputs: [T, H, B]."""
        read = outputs[-self.form.positions :].permute(2, 0, 1)
        # flat, because the rounding of sums over two axes depends on the number of members
        answers: Tensor = self.readout(read.flatten(0, 1)).unflatten(0, read.shape[:2])
        return answers[:, 0] if self.form.kind == "label" else answers

    def _layers(self) -> list[Cell]:
        return [cell for cell in self.cells if isinstance(cell, Cell)]

    def _read(self, inputs: Tensor) -> Tensor:
        """Inputs as [S, m, B]."""
        if self.embeds:
            embedded: Tensor = self.embedding(inputs.T.long())
            return embedded.mT
        if self.form.vocabulary:
            tokens = torch.arange(self.form.vocabulary, dtype=inputs.dtype, device=inputs.device)
            return (inputs.T[:, None] == tokens[:, None]).to(self.readout.weight.dtype)
        return inputs.reshape(len(inputs), self.form.given_steps, self.form.features).permute(1, 2, 0)

    def _steps(self, cell: Cell, x: Tensor, gate: Gate = torch.sigmoid) -> Iterator[tuple[Tensor, Carried]]:
        """The output at each step, [B, H], and the carried values."""
        carried, blank = cell.first(x.shape[2]), x.new_zeros(x.shape[2], x.shape[1])
        for t in range(self.form.steps):
            if self.truncation and t % self.truncation == 0:
                carried = type(carried)(*(value.detach() for value in carried))
            y, carried = cell.step(x[t].T if t < len(x) else blank, carried, gate)
            yield y, carried


class Attention(nn.Module):
    """A small causal transformer like GPT-2: `depth` blocks of attention and a layer of 4 `width` units (gelu).

    Layers normalize their inputs; positions are learned; first weights are N(0, 0.02), biases zero.
    forward: as in Recurrent; `hidden` is applied to each block's output, [B, T, H].
    """

    def __init__(self, model: Model, form: Form, _truncation: int = 0):
        super().__init__()
        self.form = form
        width = model.width
        self.enter = nn.Embedding(form.vocabulary, width) if form.vocabulary else nn.Linear(form.features, width)
        self.position = nn.Parameter(torch.empty(form.steps, width))
        heads = width // HEAD_UNITS if width % HEAD_UNITS == 0 else 1
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(model.depth))
        self.norm = nn.LayerNorm(width)
        self.readout = nn.Linear(width, form.outputs)
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, inputs: Tensor, hidden: Hidden = unchanged) -> Tensor:
        """Returns the read-out of the last positions."""
        x = self.embedded(inputs)
        for number, block in enumerate(self.blocks):
            x = hidden(block(x), number)
        return self.answers(x)

    def embedded(self, inputs: Tensor) -> Tensor:
        """Returns what the first block reads, [B, T, H]."""
        form = self.form
        if form.vocabulary:
            x = self.enter(inputs.long())
        else:
            x = self.enter(inputs.reshape(len(inputs), form.given_steps, form.features))
        if form.given_steps < form.steps:
            x = functional.pad(x, (0, 0, 0, form.steps - form.given_steps))
        embedded: Tensor = x + self.position
        return embedded

    def answers(self, x: Tensor) -> Tensor:
        """Returns the read-out of the last positions of the last block's output."""
        answers: Tensor = self.readout(self.norm(x[:, -self.form.positions :]))
        return answers[:, 0] if self.form.kind == "label" else answers


class Transformer(Attention):
    """GPT-2 (Radford et al. 2019) at any size: `depth` blocks, `heads` heads, a context of all steps.

    As Attention, with this number of heads, and with first weights of layers that end in a sum smaller by
    sqrt(2 depth), as many as there are sums. `hidden` is applied where GPT-2 has dropout: to the embeddings, and to
    each branch before it is added, [B, T, H].
    """

    def __init__(self, model: Model, form: Form, truncation: int = 0):
        super().__init__(model, form, truncation)
        scale = parametrization.attention_scale(model)
        self.blocks = nn.ModuleList(Block(model.width, model.heads, scale) for _ in range(model.depth))
        for name, parameter in self.blocks.named_parameters():
            if parameter.dim() > 1:
                is_added = name.endswith(("leave.weight", "narrow.weight"))
                nn.init.normal_(parameter, std=0.02 / (2 * model.depth) ** 0.5 if is_added else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, inputs: Tensor, hidden: Hidden = unchanged) -> Tensor:
        """Returns the read-out of the last positions."""
        x = hidden(self.embedded(inputs), 0)
        for number, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            x = x + hidden(block.attended(x), 2 * number + 1)
            x = x + hidden(block.dense(x), 2 * number + 2)
        return self.answers(x)


class Block(nn.Module):
    """Causal self-attention, then two dense layers, each added to its input.  forward: [B, T, H] -> [B, T, H]."""

    def __init__(self, width: int, heads: int, scale: float | None = None):
        super().__init__()
        self.heads, self.scale = heads, (width // heads) ** -0.5 if scale is None else scale
        self.norm_attention, self.norm_dense = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.leave = nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the block's output, [B, T, H]."""
        x = x + self.attended(x)
        return x + self.dense(x)

    def attended(self, x: Tensor) -> Tensor:
        """Returns the branch of attention."""
        steps, width = x.shape[-2:]
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(-2, -3)
            for part in self.query_key_value(self.norm_attention(x)).split(width, -1)
        )
        later = torch.ones(steps, steps, dtype=torch.bool, device=x.device).triu(1)
        scores = (query @ key.mT) * self.scale
        weights = scores.masked_fill(later, float("-inf")).softmax(-1)
        branch: Tensor = self.leave((weights @ value).transpose(-2, -3).flatten(-2))
        return branch

    def dense(self, x: Tensor) -> Tensor:
        """Returns the branch of the two dense layers."""
        branch: Tensor = self.narrow(functional.gelu(self.widen(self.norm_dense(x))))
        return branch


SEQUENCE_MODELS: dict[str, Callable[[Model, Form, int], nn.Module]] = {
    "recurrent": Recurrent,
    "attention": Attention,
    "transformer": Transformer,
}
